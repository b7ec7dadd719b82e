"""Joins the JSON of the benchmark programs: table.py FOLDER NAME... reads FOLDER/NAME.json of each and writes
FOLDER/figures.json and FOLDER/figures.txt."""

import json
import pathlib
import platform
import sys


# What Google Benchmark writes of every row; the rest are our counters.
GENERAL_FIELDS = ("name", "run_name", "run_type", "family_index", "per_family_instance_index", "repetitions",
                  "repetition_index", "threads", "iterations", "real_time", "cpu_time", "time_unit")


def cpu_model():
    """The processor's name; on Arm, where /proc/cpuinfo has none, its implementer and part numbers."""
    fields = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    parts = [fields[key] for key in ("CPU implementer", "CPU part") if key in fields]
    name = fields.get("model name") or " ".join(parts) or platform.machine()
    numbers = [f"{key} {fields[key]}" for key in ("cpu family", "model", "stepping") if key in fields]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def read(path):
    """The context and the rows of one program, times in milliseconds, without what only describes the host; None
    if no row was run."""
    text = path.read_text()
    if not text.strip():
        return None
    report = json.loads(text)
    context = {key: report["context"][key] for key in ("date", "num_cpus", "compiler", "rehyat_version")}
    rows = []
    for row in report["benchmarks"]:
        name = row["name"].removesuffix("/iterations:1/manual_time")
        counters = {key: value for key, value in row.items() if key not in GENERAL_FIELDS}
        rows.append({"name": name, "ms": row["real_time"], **counters})
    return context, rows


def line(row):
    name = row["name"]
    if "error_message" in row:
        return f"{name:<78} {row['error_message']}"
    text = f"{name:<78} {row['ms']:>10.3f}"
    if "gflops" in row:
        text += f" {row['gflops']:>9.1f} {row['peak']:>9.1f} {100 * row['share']:>7.1f}"
    if "over_eigen" in row:
        text += (f"  Eigen {row['over_eigen']:.1f}x, exact {row['over_exact']:.2f}x of {row['counts']:.2f}x,"
                 f" error {row['exact_error']:.1e}")
    if "gigabytes" in row:
        text += f"  {row['gigabytes']:.1f} GB/s"
    return text


def main(folder, names):
    reports = [report for report in (read(folder / f"{name}.json") for name in names) if report]
    if not reports:
        sys.exit("no row was run")
    context = {"cpu": cpu_model(), **reports[0][0]}
    rows = [row for _, rows in reports for row in rows]
    (folder / "figures.json").write_text(json.dumps({"context": context, "rows": rows}, indent=1) + "\n")
    lines = [f"{context['cpu']}, {context['num_cpus']} CPUs",
             f"{context['date']}, rehyat {context['rehyat_version']}, compiler {context['compiler']}", "",
             f"{'':<78} {'ms':>10} {'GFLOP/s':>9} {'FMA peak':>9} {'% of it':>7}"]
    lines += [line(row) for row in rows]
    (folder / "figures.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
