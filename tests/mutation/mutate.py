#!/usr/bin/env python3
"""Makes mutants of the library, runs the tests on each and lists those that survive.

    tests/mutation/mutate.py --table tests/mutation/results.csv    # the full run
    tests/mutation/mutate.py --sample 8 --seed 1                   # a few of them
    tests/mutation/mutate.py --only attend-relation --list         # what there is

README.md says which rules there are. Needs what the tests need, and Ninja.
"""

import argparse
import collections
import csv
import fnmatch
import hashlib
import pathlib
import queue
import resource
import signal
import sys
import threading
import time

import survivors
from named import NAMED
from rules import mutants_of
from runner import BaselineError, Tree, end_all

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
FILES = [f"include/rehyat/{name}.hpp" for name in (
    "schedule", "element", "detail/problem", "detail/tasks", "detail/one_shot", "detail/recurrent",
    "detail/recurrent_state", "kernel/attend", "kernel/key_blocks", "kernel/absorb", "kernel/join", "kernel/online_softmax",
    "kernel/query_block", "kernel/features", "kernel/pack", "kernel/exp", "kernel/register_tile")]
MEMORY = 8 << 30  # bytes of address space: a mutant may ask for any amount


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="mutants by rule in the full run (default %(default)s)")
    parser.add_argument("--sample", type=int, metavar="N", help="only N of the full run, none that is known to survive")
    parser.add_argument("--seed", type=int, default=1, help="chooses mutants (default %(default)s)")
    parser.add_argument("--only", metavar="PATTERN", action="append",
                        help="of all possible mutants those whose id, file or line matches: text or shell pattern; "
                             "may be given several times")
    parser.add_argument("--list", action="store_true", help="print the chosen mutants, and run nothing")
    parser.add_argument("--no-retry", action="store_true", help="call a survivor of the quick tests a survivor")
    parser.add_argument("--retry-listed", action="store_true",
                        help="run all tests on survivors that are listed as equivalent, too")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time, each in a tree of its own (default 1)")
    parser.add_argument("--work", type=pathlib.Path, default=REPOSITORY / "build" / "mutation",
                        help="folder for copies and builds, emptied first (default build/mutation)")
    parser.add_argument("--cmake-option", action="append", default=[], metavar="OPTION", help="handed to cmake")
    parser.add_argument("--table", type=pathlib.Path, help="write the results there, as CSV")
    options = parser.parse_args()
    if options.jobs < 1 or options.count < 1 or (options.sample is not None and options.sample < 1):
        parser.error("--jobs, --count and --sample must be at least 1")
    return options


def rank(seed, mutant):
    """A random order that a mutant keeps when others come and go."""
    return hashlib.sha256(f"{seed} {mutant.id()}".encode()).digest()


def chosen_of(mutants, count, seed):
    """`count` of the mutants, every file and rule in proportion, at least one each while there is room."""
    strata = collections.defaultdict(list)
    for mutant in sorted(mutants, key=lambda m: rank(seed, m)):
        strata[mutant.file, mutant.rule].append(mutant)
    count = min(count, len(mutants))
    # the k-th of a stratum of n comes when a share of (k + 1/2) / n of all is taken; the first ones come before
    order = sorted((0 if k == 0 else (k + 0.5) / len(stratum), rank(seed, mutant), mutant.id())
                   for stratum in strata.values() for k, mutant in enumerate(stratum))
    taken = {identity for _, _, identity in order[:count]}
    return [mutant for mutant in mutants if mutant.id() in taken]


def all_mutants():
    by_rule = []
    for file in FILES:
        by_rule += mutants_of((REPOSITORY / file).read_text(encoding="utf-8"), file)
    for mutant in NAMED:  # says which of them no longer applies
        mutant.apply((REPOSITORY / mutant.file).read_text(encoding="utf-8"))
    return by_rule


def choose(options, by_rule, known):
    if options.only:
        patterns = [only if set("*?[") & set(only) else f"*{only}*" for only in options.only]
        return [m for m in [*by_rule, *NAMED] if any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns
                                                     for text in (m.id(), m.file, m.original))]
    chosen = chosen_of(by_rule, options.count, options.seed) + list(NAMED)
    if options.sample:
        alive = [m for m in chosen if not any(k.matches(m) for k in known)]
        chosen = sorted(alive, key=lambda m: rank(options.seed, m))[:options.sample]
    return chosen


def run_all(options, mutants, known):
    """Verdicts by id."""
    verdicts, errors = {}, []
    waiting = queue.Queue()
    files = sorted({mutant.file for mutant in mutants})
    for mutant in sorted(mutants, key=lambda m: m.file):  # few changes of the file that is rebuilt
        waiting.put(mutant)

    def work(job):
        try:
            tree = Tree(REPOSITORY, options.work / f"job{job}", options.cmake_option, files)
            tree.build("quick")
            while not errors:
                mutant = waiting.get_nowait()
                listed = any(k.matches(mutant) for k in known)
                verdict = tree.judge(mutant, not options.no_retry and (options.retry_listed or not listed))
                verdicts[mutant.id()] = verdict
                print(f"[{len(verdicts)}/{len(mutants)}] {mutant.id()}: {verdict.outcome}"
                      f"{', ' + verdict.by if verdict.by else ''} ({verdict.seconds:.0f} s)", flush=True)
        except queue.Empty:
            pass
        except Exception as error:  # whatever it is: the other jobs are to stop, too
            errors.append(error)

    threads = [threading.Thread(target=work, args=(job,), daemon=True) for job in range(options.jobs)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        end_all()
    if errors:
        raise errors[0]
    return verdicts


def write_table(path, mutants, verdicts, known):
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("id", "file", "function", "rule", "original", "mutated", "verdict", "killed by"))
        for mutant in mutants:
            verdict = verdicts[mutant.id()]
            reasons = [k.reason for k in known if k.matches(mutant)]
            outcome = "equivalent" if verdict.outcome == "survived" and reasons else verdict.outcome
            table.writerow((mutant.id(), mutant.file.removeprefix("include/rehyat/"), mutant.function, mutant.rule,
                            mutant.original, mutant.mutated, outcome, verdict.by))


def report(mutants, verdicts, known):
    """Prints counts and what is wrong; the number of the latter."""
    counts = collections.Counter(verdicts[m.id()].outcome for m in mutants)
    total = sum(v.seconds for v in verdicts.values())
    print(f"\n{len(mutants)} mutants: " + ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items()))
          + f"; {total / max(len(mutants), 1):.1f} s each")
    wrong = 0
    for mutant in mutants:
        listed = any(k.matches(mutant) for k in known)
        survived = verdicts[mutant.id()].outcome == "survived"
        if survived and not listed:
            wrong += 1
            print(f"\nSurvivor that is not in equivalent.txt: {mutant.id()}\n{mutant.file}, {mutant.function}, "
                  f"{mutant.key()[2]}\n- {mutant.original}\n+ {mutant.mutated}")
        elif listed and verdicts[mutant.id()].outcome in ("killed", "timeout"):
            wrong += 1
            print(f"\nIn equivalent.txt, yet killed: {mutant.id()}, by {verdicts[mutant.id()].by}")
    return wrong


def check_list(known, by_rule):
    """Prints entries of the list that are about no mutant any more; their number."""
    possible = [*by_rule, *NAMED]
    stale = [entry for entry in known if not any(entry.matches(m) for m in possible)]
    for entry in stale:
        print(f"equivalent.txt: this is no mutant any more, please remove it:\n{entry.file}, {entry.function}, "
              f"{entry.rule}\n- {entry.original}\n+ {entry.mutated}\n", file=sys.stderr)
    return len(stale)


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("mutate.py: ended"))  # and with it what it started
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.RLIM_INFINITY))
    known = survivors.parse((HERE / "equivalent.txt").read_text(encoding="utf-8"), "equivalent.txt")
    by_rule = all_mutants()
    mutants = choose(options, by_rule, known)
    wrong = check_list(known, by_rule)
    if not mutants:
        sys.exit("no mutant matches")
    if options.list:
        for m in mutants:
            print(f"{m.id()}  {m.file}, {m.function}\n    - {m.original}\n    + {m.mutated}")
        print(f"{len(mutants)} of {len(by_rule)} mutants by rule and {len(NAMED)} by name")
        return 1 if wrong else 0
    start = time.monotonic()
    verdicts = run_all(options, mutants, known)
    if options.table:
        write_table(options.table, mutants, verdicts, known)
    wrong += report(mutants, verdicts, known)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{time.monotonic() - start:.0f} s with {options.jobs} job(s), "
          f"{used.ru_utime + used.ru_stime:.0f} s of processor time")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BaselineError, OSError, ValueError) as failure:
        sys.exit(f"mutate.py: {failure}")
