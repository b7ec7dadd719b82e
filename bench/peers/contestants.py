"""The peers, and the processes that they run in."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


class Peer:
    """Command without its last arguments <operator> <threads> <folder>, operators, and what it needs."""

    def __init__(self, command, operators, needs):
        self.command = command
        self.operators = operators
        self.needs = needs


def all_peers(build):
    program = lambda name: str(build / "bench" / "peers" / f"bench_peer_{name}")
    built = "the benchmarks built (REHYAT_BUILD_BENCH=ON)"
    torch = [sys.executable, str(HERE / "torch_peer.py")]
    return {
        "rehyat": Peer([program("rehyat"), "float32"], ("exact", "hybrid", "hybrid_recurrent"), built),
        "rehyat_float16": Peer([program("rehyat"), "float16"], ("exact", "hybrid"),
                               f"a processor with half-precision products and {built}"),
        "rehyat_int8": Peer([program("rehyat"), "int8"], ("exact", "hybrid"), f"a processor with int8 products and {built}"),
        "eigen": Peer([program("eigen")], ("exact",), built),
        "onednn": Peer([program("onednn")], ("exact",), f"oneDNN (Debian: libdnnl-dev) and {built}"),
        "ggml": Peer([program("ggml"), "float32"], ("exact",), f"ggml installed and {built}"),
        "ggml_float16": Peer([program("ggml"), "float16"], ("exact",), f"ggml installed and {built}"),
        "torch": Peer(torch + ["composed"], ("exact",), "PyTorch (Debian: python3-torch libopenblas0-pthread)"),
        "torch_sdpa": Peer(torch + ["sdpa"], ("exact",), "PyTorch 2.0 or later"),
        "onnxruntime": Peer(["node", str(HERE / "onnxruntime_peer.js")], ("exact", "hybrid"),
                            "Node.js, its package (npm install --prefix bench/peers) and onnx (Debian: python3-onnx)"),
    }


def environment(threads):
    """What tells the libraries their number of threads. Debian 12's OpenBLAS does not know newer processors and would
    run SSE3 code on them: it is told what they have."""
    variables = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    flags = pathlib.Path("/proc/cpuinfo").read_text().partition("\nflags")[2].partition("\n")[0].split()
    for flag, core in (("avx512dq", "SkylakeX"), ("avx2", "Haswell")):
        if flag in flags:
            variables.setdefault("OPENBLAS_CORETYPE", core)
            break
    return variables


class PeerError(Exception):
    """Why a peer does not run, in words."""


class Contestant:
    """A peer with one operator, in a process of its own."""

    def __init__(self, name, peer, operator, folder):
        self.name = name
        self.operator = operator
        self.about = {}
        self.runs = []
        self.peak_bytes = self.error = self.skipped = None
        self.output = folder / f"{name}.{operator}.out.npy"
        self._peer = peer
        self._folder = folder
        self._errors = tempfile.TemporaryFile()
        self._process = None

    def start(self, threads, memory_limit):
        """Prepares it and lets it run once. Raises PeerError if it cannot, or would store more bytes than
        `memory_limit` of scores of queries times keys."""
        command = [*self._peer.command, self.operator, str(threads), str(self._folder)]
        if shutil.which(command[0]) is None:
            raise self._unable(f"{command[0]} is not there")
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
                                         env=environment(threads), text=True)
        scores = self._reply()["quadratic_bytes"]
        if scores > memory_limit:
            raise PeerError(f"stores {scores / 1e9:.1f} GB of scores; the limit is {memory_limit / 1e9:g} GB")
        before = self._memory("VmRSS") if self._forget_peak_memory() else None
        self.about = self.ask("prepare")
        self.runs = [self.ask("run")["seconds"]]
        if before is not None:
            self.peak_bytes = self._memory("VmHWM") - before
        self.ask(f"write {self.output}")

    def ask(self, command):
        """A command's reply."""
        try:
            print(command, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            pass  # the reply says why
        return self._reply()

    def _reply(self):
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            reason = said[-1] if said else f"it ended with status {self._process.returncode}"
            raise self._unable(reason)
        reply = json.loads(line)
        if "error" in reply:
            raise self._unable(reply["error"])
        return reply

    def _unable(self, reason):
        return PeerError(f"{reason}; {self.name} needs {self._peer.needs}")

    def _status_path(self, name):
        return pathlib.Path(f"/proc/{self._process.pid}/{name}")

    def _memory(self, field):
        for line in self._status_path("status").read_text().splitlines():
            if line.startswith(field + ":"):
                return 1024 * int(line.split()[1])
        raise PeerError(f"this kernel tells no {field}")

    def _forget_peak_memory(self):
        """Sets the process's VmHWM to what it has now; false where the kernel does not let us."""
        try:
            self._status_path("clear_refs").write_text("5")
            return True
        except OSError:
            return False

    def skip(self, reason):
        self.skipped = str(reason)
        self.close()

    def close(self):
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait()
            self._process.stdout.close()
            self._process = None
