"""Joins what bench/run.sh left in a folder: table.py FOLDER reads the JSON and the text of its steps and writes
FOLDER/figures.json and FOLDER/figures.txt."""

import json
import pathlib
import platform
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent / "peers"))
import report

PROGRAMS = ("operators", "ratios", "reference", "kernels", "chunking")
PEERS = ("peers", "frames")
SCRIPTS = ("window", "arithmetic", "neon", "cache")  # write tables themselves

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
    """A step's JSON; None if it was not run, or no row was."""
    text = path.read_text() if path.is_file() else ""
    return json.loads(text) if text.strip() else None


def program_report(benchmark):
    """The context and the rows of a Google Benchmark program, times in milliseconds, without what only describes the
    host."""
    context = {key: benchmark["context"][key] for key in ("date", "num_cpus", "compiler", "rehyat_version")}
    rows = []
    for row in benchmark["benchmarks"]:
        name = row["name"].removesuffix("/iterations:1/manual_time")
        counters = {key: value for key, value in row.items() if key not in GENERAL_FIELDS}
        rows.append({"name": name, "ms": row["real_time"], **counters})
    return {"context": {"cpu": cpu_model(), **context}, "rows": rows}


def read_all(folder):
    """The reports of all steps that were run, by name."""
    found = {name: read(folder / f"{name}.json") for name in PROGRAMS + PEERS + SCRIPTS}
    return {name: program_report(found[name]) if name in PROGRAMS else found[name]
            for name in found if found[name] is not None}


def line(row):
    name = row["name"]
    if "error_message" in row:
        return f"{name:<78} {row['error_message']}"
    text = f"{name:<78} {row['ms']:>10.3f}"
    if "gflops" in row:
        text += f" {row['gflops']:>9.1f} {row['peak']:>9.1f} {100 * row['share']:>7.1f} {100 * row['share_then']:>7.1f}"
        text += f" {100 * row['share_alone']:>7.1f}" if "share_alone" in row else ""
    if "ratio" in row:
        text += f" {row['ratio']:>9.3f} ({row['low']:.3f} to {row['high']:.3f})"
        text += f" of {row['counts']:.2f} operations" if "counts" in row else ""
    if "over_eigen" in row:
        text += (f"  Eigen {row['over_eigen']:.1f}x, exact {row['over_exact']:.2f}x of {row['counts']:.2f}x,"
                 f" error {row['exact_error']:.1e}")
    if "gigabytes" in row:
        text += f"  {row['gigabytes']:.1f} GB/s"
    return text


def program_lines(rows):
    if "ratio" in rows[0]:
        head = f"{'':<78} {'ms':>10} {'ratio':>9} (quartiles)"
    else:
        head = f"{'':<78} {'ms':>10} {'GFLOP/s':>9} {'FMA peak':>9} {'% of it':>7} {'% then':>7} {'% alone':>7}"
    return [head] + [line(row) for row in rows]


def peer_lines(rows):
    """A table per clip and number of threads, after the libraries' versions."""
    versions = {r["peer"]: r["version"] for r in rows if "version" in r}
    lines = [", ".join(f"{peer} {version}" for peer, version in versions.items())]
    groups = {}
    for r in rows:
        groups.setdefault((r["case"], r["threads"]), []).append(r)
    for group in groups.values():
        lines += ["", report.table(group)]
    return lines


def sections(folder, reports):
    """Lines of figures.txt, step after step."""
    for name, contents in reports.items():
        context = contents.get("context", {})
        yield f"== {name}" + (f", {context['date']}" if context else "")
        if name in SCRIPTS:
            yield (folder / f"{name}.txt").read_text().rstrip()
        else:
            yield from (program_lines if name in PROGRAMS else peer_lines)(contents["rows"])
        yield ""


def main(folder):
    reports = read_all(folder)
    contexts = [contents["context"] for contents in reports.values() if "compiler" in contents.get("context", {})]
    if not reports:
        sys.exit(f"nothing was run: {folder} has no JSON")
    (folder / "figures.json").write_text(json.dumps(reports, indent=1) + "\n")
    lines = [cpu_model()]
    lines += [f"{c['num_cpus']} CPUs, rehyat {c['rehyat_version']}, compiler {c['compiler']}" for c in contexts[:1]]
    text = "\n".join(lines + ["", *sections(folder, reports)])
    (folder / "figures.txt").write_text(text)
    print(text)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
