#!/usr/bin/env python3
"""Projects that use rehyat, one per way in, built and run: consumers_test.py SOURCE_DIR BUILD_DIR COMPILER...

All have to give the same bits for the same instruction set.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

CONSUMER = pathlib.Path(__file__).resolve().parent / "consumers"
FLAGS = {"scalar": "-DREHYAT_KERNEL_ISA_SCALAR", "avx2": "-mavx2 -mfma -mf16c",
         "avx512": "-mavx2 -mfma -mf16c -mavx512f -mavx512cd -mavx512dq -mavx512bw -mavx512vl"}
FAST = ["-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS_RELEASE=-O1"]
options = argparse.Namespace()


def run(command, environment=None, fails=False):
    """What a command prints; it has to succeed, or to fail."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", env={**os.environ, **(environment or {})}, check=False)
    if (done.returncode != 0) != fails:
        raise AssertionError(f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{done.stdout[-6000:]}")
    return done.stdout


def result(program, environment=None):
    """Instruction set and hash that a consumer prints."""
    return tuple(run([program], environment).split())


class ConsumersTest(unittest.TestCase):
    """What the consumers print, by instruction set, has to be one hash each."""

    hashes = {}

    @classmethod
    def setUpClass(cls):
        """Installs the library, and moves it elsewhere: nothing in it may depend on the place."""
        shutil.rmtree(options.build_dir, ignore_errors=True)
        library, cls.prefix = options.build_dir / "library", options.build_dir / "moved"
        run(["cmake", "-S", options.source_dir, "-B", library, "-DREHYAT_BUILD_TESTS=OFF", "-DREHYAT_BUILD_BENCH=OFF",
             "-DREHYAT_BUILD_EXAMPLES=OFF", f"-DCMAKE_INSTALL_PREFIX={options.build_dir / 'installed'}"])
        run(["cmake", "--install", library])
        (options.build_dir / "installed").rename(cls.prefix)

    def expect_same_hash(self, printed):
        isa, value = printed
        self.assertEqual(self.hashes.setdefault(isa, value), value, isa)
        return isa

    def configured(self, name, *settings, fails=False):
        """Configures the consumer's project."""
        folder = options.build_dir / name
        printed = run(["cmake", "-S", CONSUMER, "-B", folder, f"-DCMAKE_CXX_COMPILER={options.compilers[0]}",
                       f"-DCMAKE_PREFIX_PATH={self.prefix}", f"-DSOURCES={options.source_dir}", *FAST, *settings],
                      fails=fails)
        return printed if fails else folder

    def built(self, name, *settings):
        folder = self.configured(name, *settings)
        run(["cmake", "--build", folder, "--parallel"])
        return folder / "consumer"

    def test_installed_with_dispatch(self):
        program = self.built("find_package", "-DWAY=find_package", "-DREQUEST=0.1", "-DDISPATCH=all")
        best = self.expect_same_hash(result(program))
        for isa in available_isas():
            self.assertEqual(self.expect_same_hash(result(program, {"REHYAT_ISA": isa})), isa)
        self.assertEqual(best, available_isas()[-1])
        self.assertIn("isa is mmx, expected auto, scalar, avx2, avx512 or neon",
                      run([program], {"REHYAT_ISA": "mmx"}, fails=True))

    def test_subdirectory_with_one_isa(self):
        program = self.built("add_subdirectory", "-DWAY=add_subdirectory", "-DDISPATCH=scalar")
        self.assertEqual(self.expect_same_hash(result(program)), "scalar")
        self.assertIn("isa is neon, which is not built into this program",
                      run([program], {"REHYAT_ISA": "neon"}, fails=True))
        cache = (program.parent / "CMakeCache.txt").read_text()
        for part in ("TESTS", "BENCH", "EXAMPLES"):  # another project's build is not asked for them
            self.assertRegex(cache, rf"REHYAT_BUILD_{part}:BOOL=OFF")

    def test_fetched_headers_alone(self):
        isa = available_isas()[-1]
        program = self.built("FetchContent", "-DWAY=FetchContent", f"-DCMAKE_CXX_FLAGS={FLAGS.get(isa, '')}")
        self.assertEqual(self.expect_same_hash(result(program)), isa)

    def test_pkg_config(self):
        if shutil.which("pkg-config") is None:
            self.skipTest("there is no pkg-config")
        folder = options.build_dir / "pkg-config"
        folder.mkdir()
        flags = run(["pkg-config", "--cflags", "--libs", "rehyat"],
                    {"PKG_CONFIG_PATH": f"{self.prefix}/share/pkgconfig"}).split()
        self.assertIn(str(self.prefix), " ".join(flags))
        for number, compiler in enumerate(options.compilers):
            for standard in standards(compiler):
                without = () if standard == "c++20" else ("-fno-exceptions", "-fno-rtti")
                with self.subTest(compiler=compiler, standard=standard):
                    program = folder / f"consumer{number}{standard}"
                    run([compiler, f"-std={standard}", "-O1", *without, "-DREHYAT_KERNEL_ISA_SCALAR",
                         CONSUMER / "main.cpp", CONSUMER / "other.cpp", *flags, "-o", program])
                    self.assertEqual(self.expect_same_hash(result(program)), "scalar")

    def test_wrong_version(self):
        self.assertIn("requested version", self.configured("wrong", "-DWAY=find_package", "-DREQUEST=9.9", fails=True))

    def test_wrong_isa(self):
        self.assertIn('no instruction set "mmx"',
                      self.configured("mmx", "-DWAY=find_package", "-DDISPATCH=mmx", fails=True))


def available_isas():
    """Those that this CPU has and the library has kernels for, the best last."""
    flags = pathlib.Path("/proc/cpuinfo").read_text()
    has = lambda *names: all(re.search(rf"^flags\b.* {name}\b", flags, re.M) for name in names)
    isas = ["scalar"]
    if has("avx2", "fma", "f16c"):
        isas.append("avx2")
        if has("avx512f", "avx512cd", "avx512dq", "avx512bw", "avx512vl"):
            isas.append("avx512")
    if os.uname().machine in ("aarch64", "arm64"):
        isas.append("neon")
    return isas


def standards(compiler):
    """C++20, and C++23 by the name that the compiler knows."""
    for name in ("c++23", "c++2b"):
        if subprocess.run([compiler, f"-std={name}", "-fsyntax-only", "-xc++", "/dev/null"], check=False,
                          stderr=subprocess.DEVNULL).returncode == 0:
            return ["c++20", name]
    return ["c++20"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source_dir", type=pathlib.Path)
    parser.add_argument("build_dir", type=pathlib.Path)
    parser.add_argument("compilers", nargs="+", help="the first builds the projects, all the plain programs")
    parser.parse_args(namespace=options)
    unittest.main(argv=sys.argv[:1])
