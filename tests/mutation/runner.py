"""Builds and tests mutants in copies of the tree: one copy a job, built incrementally."""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

COPIED = ("CMakeLists.txt", "cmake", "examples", "include", "tests")  # of the examples their data
CONFIGURATION = ("-G", "Ninja", "-DCMAKE_BUILD_TYPE=Mutation", "-DREHYAT_BUILD_BENCH=OFF",
                 "-DREHYAT_BUILD_EXAMPLES=OFF",
                 # kernels get -O2 all the same
                 "-DCMAKE_CXX_FLAGS_MUTATION=-O0")


@dataclasses.dataclass(frozen=True)
class Step:
    """One run of a test program."""
    program: str
    filter: str = "*"
    seeds: int = 0  # of random tests; 0: as many as the test says
    chunks: int = 0  # of long videos, likewise


# The deadly ones and those that compile in no time first: most mutants die in the first two or three.
QUICK_STEPS = (
    Step("recurrent_test", "-*AStateMovesBetweenInstructionSets*", 12),  # that one needs the scalar kernels
    Step("golden_test"),
    Step("views_test", seeds=10),
    Step("recurrent_errors_test"),
    Step("errors_test"),
    Step("determinism_test", seeds=4),
    Step("layouts_test"),
    Step("elements_test", seeds=8),
    Step("packed_weights_test", seeds=4),
    Step("corners_test"),
    Step("nonfinite_test"),
    Step("extreme_test"),
    Step("random_test", seeds=4),
)
# What else mutants of a file meet, after the first of these: it tells whether the library compiles at all.
EXTRA_STEPS = {"schedule.hpp": Step("schedule_test"), "element.hpp": Step("elements_test", "ElementTest.*"),
               "exp.hpp": Step("exp_{isa}_test"),
               "absorb.hpp": Step("long_video_test", "*huge_then_small*", chunks=10000)}
# Mutants of what training alone includes meet these instead: its kernels' own tests, then all of distillation's.
TRAINING = ("include/rehyat/train/",
            *(f"include/rehyat/kernel/{name}.hpp" for name in ("multiply", "slopes", "distance")))
TRAINING_STEPS = (Step("distillation_test", "*TrainingKernelsTest*", 10),
                  Step("distillation_test", "-*TrainingKernelsTest*:*Refusals*", 4))
# What survives them, with unoptimised kernels under sanitizers: an optimiser drops what is written past the end of an
# array that it keeps in registers, and what is read there is anything, often what it should be.
MEMORY_STEPS = (
    Step("views_test", seeds=2),
    Step("extreme_test"),
    Step("corners_test"),
    Step("recurrent_test", "-*AStateMovesBetweenInstructionSets*", 1),
    Step("elements_test", "-*ElementTest.*", 1),
)
STAGES = ("quick", "memory", "complete")
SANITIZERS = "-fsanitize=address,undefined -fno-sanitize-recover=all"
BUILD_SECONDS = 900


# Clang compiles these tests in half of GCC's time; the library promises the same bits from both. An index past the end
# of an array traps: an optimiser may otherwise take a loop of one turn too many for one of the right number.
COMPILER = shutil.which("clang++")
WITH_COMPILER = (f"-DCMAKE_CXX_COMPILER={COMPILER}", "-DCMAKE_CXX_FLAGS=-fsanitize=bounds -fsanitize-trap=bounds")


class BaselineError(Exception):
    """The tree as it is does not pass its own tests."""


@dataclasses.dataclass
class Verdict:
    outcome: str  # killed, timeout, survived or does not build
    by: str = ""  # which test
    seconds: float = 0.0


def native_isa():
    """The instruction set that mutants meet first: the narrowest one that has vectors."""
    if os.uname().machine in ("aarch64", "arm64"):
        return "neon"
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        flags = re.search(r"^flags\s*:(.*)$", info.read(), re.MULTILINE)
    return "avx2" if flags and {"avx2", "fma"} <= set(flags.group(1).split()) else "scalar"


RUNNING = set()  # of processes, each of a session of its own


def end_all():
    """Ends what this program started."""
    for process in list(RUNNING):
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(process.pid, signal.SIGKILL)


def finished(command, timeout, **options):
    """Exit status and output; status None if it ran out of time, then all that the command started is ended."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                               start_new_session=True, **options)
    RUNNING.add(process)
    try:
        output, _ = process.communicate(timeout=timeout)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return None, process.communicate()[0]
    finally:
        RUNNING.discard(process)


def failed_test(status, output):
    """Which test of a program failed, and how if not by an expectation."""
    failed = re.search(r"\[  FAILED  \] (\S+?)(?:,|$| \()", output, re.MULTILINE)
    if failed:
        return failed.group(1)
    running = re.findall(r"\[ RUN      \] (\S+)", output)
    how = f"status {status}"
    if status in (None, -signal.SIGXCPU):
        how = "out of time"
    elif status < 0:
        how = signal.Signals(-status).name
    return f"{running[-1] if running else 'start'} ({how})"


class Build:
    """A build folder of a tree for one of the stages: some instruction sets, all test programs."""

    def __init__(self, tree, stage):
        self.tree = tree
        self.stage = stage
        self.folder = tree.folder / stage
        self.baseline = {}  # seconds of each step
        status, output = finished(["cmake", "-S", str(tree.source), "-B", str(self.folder), *CONFIGURATION,
                                   f"-DREHYAT_MUTATION_ISAS={'' if stage == 'complete' else native_isa()}",
                                   *(WITH_COMPILER if COMPILER else ()),
                                   *((f"-DCMAKE_CXX_FLAGS={SANITIZERS}", "-DREHYAT_MUTATION_UNOPTIMISED=ON")
                                     if stage == "memory" else ()),
                                   *tree.cmake_options], BUILD_SECONDS)
        if status != 0:
            raise BaselineError(output[-4000:])
        lines = (self.folder / "tests" / "mutation_programs.txt").read_text(encoding="utf-8").split()
        self.programs = {pathlib.Path(line).name: pathlib.Path(line) for line in lines}

    def make(self, *targets):
        """True, or the output if it fails."""
        status, output = finished(["ninja", "-C", str(self.folder), "-j1", *targets], BUILD_SECONDS)
        return True if status == 0 else output

    def run(self, step, seconds):
        """None if the step, whose program is built and took so long on the tree as it is, passes; else what failed."""
        environment = dict(os.environ, GTEST_FAIL_FAST="1", GTEST_FILTER=step.filter, GTEST_BRIEF="0")
        if step.seeds:
            environment["REHYAT_TEST_SEEDS"] = str(step.seeds)
        if step.chunks:
            environment["REHYAT_TEST_CHUNKS"] = str(step.chunks)
        program = self.programs[step.program]
        if self.stage == "memory":  # whose shadow takes any amount of addresses, and little memory
            environment["ASAN_OPTIONS"] = "detect_leaks=0:hard_rss_limit_mb=8192"
        # of processor time, so that a busy machine kills no mutant; but who waits for ever needs none
        limit = round(10 + 5 * seconds)
        addresses = ["--as=unlimited"] if self.stage == "memory" else []
        status, output = finished(["prlimit", f"--cpu={limit}:{limit + 5}", *addresses, str(program)],
                                  60 + 20 * seconds, env=environment, cwd=program.parent)
        return None if status == 0 else f"{step.program}: {failed_test(status, output)}"

    def steps(self, file):
        """What a mutant of the file has to pass."""
        if self.stage == "complete":
            return [Step(name) for name in sorted(self.programs, key=lambda n: self.baseline.get(Step(n), 0))]
        if file.startswith(TRAINING):
            return TRAINING_STEPS
        if self.stage == "memory":
            return MEMORY_STEPS
        extra = [step for name, step in EXTRA_STEPS.items() if file.endswith("/" + name)]
        steps = [QUICK_STEPS[0], *extra, *QUICK_STEPS[1:]]
        return [dataclasses.replace(step, program=step.program.format(isa=native_isa())) for step in steps]

    def measure_baseline(self, files):
        """Runs on the tree as it is what mutants of the files have to pass; later runs may take a few times as long."""
        steps = dict.fromkeys(step for file in files for step in self.steps(file))
        built = self.make(*{step.program for step in steps})
        if built is not True:
            raise BaselineError("the unchanged tree does not build:\n" + built[-4000:])
        for step in steps:
            start = time.monotonic()
            failure = self.run(step, BUILD_SECONDS)
            if failure:
                raise BaselineError(f"the unchanged tree fails {failure}")
            self.baseline[step] = time.monotonic() - start

    def judge(self, file):
        """The verdict on the tree as it is now."""
        built = []
        for step in self.steps(file):
            made = self.make(step.program)
            if made is not True and not built:
                first = re.search(r"error: (.*)", made)
                return Verdict("does not build", first.group(1)[:100] if first else "")
            if made is not True:  # the library compiles: what does not is a constant expression of the test
                return Verdict("killed", f"{step.program}: does not compile")
            built.append(step.program)
            failure = self.run(step, self.baseline[step])
            if failure:
                return Verdict("timeout" if "out of time" in failure else "killed", failure)
        return Verdict("survived")


class Tree:
    """A copy of the repository in which one of the files at a time is mutated."""

    def __init__(self, repository, folder, cmake_options, files):
        self.folder = folder
        self.source = folder / "tree"
        self.cmake_options = cmake_options
        self.files = files
        shutil.rmtree(folder, ignore_errors=True)
        self.source.mkdir(parents=True)
        for name in COPIED:
            copy = shutil.copytree if (repository / name).is_dir() else shutil.copy2
            copy(repository / name, self.source / name)
        lists = self.source / "tests" / "CMakeLists.txt"
        lists.write_text("include(mutation/fast_build.cmake)\n" + lists.read_text(encoding="utf-8"), encoding="utf-8")
        self.changed = {}  # file: its own text
        self.builds = {}

    def write(self, file, text):
        """Written only if it differs, so that what is built stays valid."""
        path = self.source / file
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")

    def restore(self, but=""):
        for file in [file for file in self.changed if file != but]:
            self.write(file, self.changed.pop(file))

    def build(self, stage):
        if stage not in self.builds:
            self.restore()
            build = Build(self, stage)
            build.measure_baseline(self.files)
            self.builds[stage] = build
        return self.builds[stage]

    def judge(self, mutant, retry):
        """A mutant's verdict by the quick steps, and, if it survives them and `retry`, by the other stages."""
        start = time.monotonic()
        verdict = Verdict("survived")
        for stage in STAGES if retry else STAGES[:1]:
            build = self.build(stage)
            self.restore(but=mutant.file)
            own = self.changed.setdefault(mutant.file, (self.source / mutant.file).read_text(encoding="utf-8"))
            self.write(mutant.file, mutant.apply(own))
            verdict = build.judge(mutant.file)
            if verdict.outcome != "survived":
                verdict.by += " (sanitizers)" if stage == "memory" else ""
                break
        verdict.seconds = time.monotonic() - start
        return verdict
