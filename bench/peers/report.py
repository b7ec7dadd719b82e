"""The rows of compare.py's JSON, and the same as a table to read."""


def row(clip, threads, contestant, operations, peak):
    """A contestant's row; `operations` of its operator by the definition, `peak` GFLOP/s of the FMA loop."""
    fields = {"case": clip.name, "frames": clip.frames, "tokens": clip.tokens, "heads": clip.heads,
              "head_dim": clip.head_dim, "threads": threads, "peer": contestant.name,
              "operator": contestant.operator}
    if contestant.skipped:
        return {**fields, "skipped": contestant.skipped}
    seconds = median(contestant.runs)
    gflops = operations / seconds * 1e-9
    if "streaming_bytes" in contestant.about:
        fields["streaming_bytes"] = contestant.about["streaming_bytes"]
    return {**fields, "version": contestant.about["version"], "arithmetic": contestant.about["arithmetic"],
            "seconds": seconds, "runs": contestant.runs, "operations": operations, "gflops": gflops,
            "peak_gflops": peak, "share_of_peak": gflops / peak, "peak_bytes": contestant.peak_bytes,
            "error": contestant.error}


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def table(rows):
    """Lines of text for the rows of one clip and number of threads: the last column is the time over that of rehyat's
    hybrid attention."""
    first = rows[0]
    seconds = {(r["peer"], r["operator"]): r["seconds"] for r in rows if "seconds" in r}
    ours = seconds.get(("rehyat", "hybrid"))
    lines = [f"{first['case']}, threads: {first['threads']}",
             f"{'':<30} {'ms':>10} {'GFLOP/s':>8} {'% of peak':>9} {'MB':>8} {'error':>8} {'/ hybrid':>8}"]
    return "\n".join(lines + [line(r, ours) for r in rows])


def line(r, ours):
    name = f"{r['peer']} {r['operator']}"
    if "skipped" in r:
        return f"{name:<30} skipped: {r['skipped']}"
    megabytes = "" if r["peak_bytes"] is None else f"{r['peak_bytes'] / 1e6:.1f}"
    error = "" if r["error"] is None else f"{r['error']:.1e}"
    ratio = "" if ours is None else f"{r['seconds'] / ours:.2f}x"
    return (f"{name:<30} {1e3 * r['seconds']:>10.2f} {r['gflops']:>8.1f} {100 * r['share_of_peak']:>9.1f}"
            f" {megabytes:>8} {error:>8} {ratio:>8}  {r['arithmetic']}")
