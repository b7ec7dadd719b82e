#!/usr/bin/env python3
"""Projects that use rehyat, one per way in, built and run: consumers_test.py SOURCE_DIR BUILD_DIR COMPILER...

All have to give the same bits for the same instruction set. The ways take the compilers in turn.
"""
import argparse
import functools
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import unittest

CONSUMER = pathlib.Path(__file__).resolve().parent / "consumers"
FLAGS = {"scalar": ["-DREHYAT_KERNEL_ISA_SCALAR"], "avx2": ["-mavx2", "-mfma", "-mf16c"], "neon": []}
FLAGS["avx512"] = FLAGS["avx2"] + [f"-mavx512{part}" for part in ("f", "cd", "dq", "bw", "vl")]
BASELINE = ["-march=x86-64"] if platform.machine() == "x86_64" else []
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wsign-conversion", "-Werror"]
NO_EXCEPTIONS = ["-fno-exceptions", "-fno-rtti"]
options = argparse.Namespace()


def run(command, environment=None, fails=False):
    """What a command prints; it has to succeed, or to fail."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", env={**os.environ, "REHYAT_ISA": "", **(environment or {})},
                          check=False)
    if (done.returncode != 0) != fails:
        raise AssertionError(f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{done.stdout[-6000:]}")
    return done.stdout


def available_isas():
    """Those that this CPU has and the library has kernels for, the best last."""
    flags = pathlib.Path("/proc/cpuinfo").read_text()
    has = lambda *names: all(re.search(rf"^flags\b.* {name}\b", flags, re.M) for name in names)
    isas = ["scalar"]
    if has("avx2", "fma", "f16c"):
        isas.append("avx2")
        if has("avx512f", "avx512cd", "avx512dq", "avx512bw", "avx512vl"):
            isas.append("avx512")
    if platform.machine() in ("aarch64", "arm64"):
        isas.append("neon")
    return isas


def compiler(turn):
    """The compiler of the turn-th way in."""
    return options.compilers[turn % len(options.compilers)]


def version():
    """What the headers say."""
    header = (options.source_dir / "include/rehyat/version.hpp").read_text()
    return ".".join(re.findall(r"^#define REHYAT_VERSION_\w+ (\d+)$", header, re.M))


class ConsumersTest(unittest.TestCase):
    """What the consumers print, by instruction set, has to be one hash each."""

    hashes = {}

    def skip(self, reason):
        """Where everything is required it is a failure."""
        if options.require_all:
            self.fail(reason)
        self.skipTest(reason)

    @classmethod
    def setUpClass(cls):
        """Installs the library, and moves it elsewhere: nothing in it may depend on the place."""
        shutil.rmtree(options.build_dir, ignore_errors=True)
        library, installed, cls.prefix = (options.build_dir / name for name in ("library", "installed", "moved"))
        run(["cmake", "-S", options.source_dir, "-B", library, "-DREHYAT_BUILD_TESTS=OFF", "-DREHYAT_BUILD_BENCH=OFF",
             "-DREHYAT_BUILD_EXAMPLES=OFF", f"-DCMAKE_INSTALL_PREFIX={installed}",
             f"-DCMAKE_PREFIX_PATH={options.prefix_path}"])
        run(["cmake", "--install", library])
        for file in installed.rglob("*"):
            if file.is_file() and any(str(place) in file.read_text() for place in (installed, options.source_dir)):
                raise AssertionError(f"{file} names a folder of the build")
        installed.rename(cls.prefix)

    def expect(self, isas, command, environment=None):
        """Every line that a program prints: an instruction set, and the hash that all agree on."""
        lines = [line.split() for line in run(command, environment).splitlines()]
        self.assertEqual([isa for isa, _ in lines], isas)
        for isa, value in lines:
            self.assertEqual(self.hashes.setdefault(isa, value), value, isa)

    def configured(self, name, turn, *settings, fails=False):
        """Configures the consumer's project."""
        folder = options.build_dir / name
        printed = run(["cmake", "-S", CONSUMER, "-B", folder, f"-DCMAKE_CXX_COMPILER={compiler(turn)}",
                       f"-DCMAKE_PREFIX_PATH={self.prefix};{options.prefix_path}", f"-DSOURCES={options.source_dir}",
                       "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS_RELEASE=-O1", *settings], fails=fails)
        return printed if fails else (folder, printed)

    def built(self, name, turn, *settings):
        """The folder of a consumer's build, and what configuring it said."""
        folder, printed = self.configured(name, turn, *settings)
        run(["cmake", "--build", folder, "--parallel", "2"])
        return folder, printed

    @functools.cache
    def with_dispatch(self):
        """The installed package with all that it offers, in C++20."""
        return self.built("find_package", 0, "-DWAY=find_package", f"-DREQUEST={version()[:-2]}", "-DDISPATCH=all",
                          "-DC_API=ON", "-DCMAKE_CXX_STANDARD=20", f"-DCMAKE_CXX_FLAGS={' '.join(BASELINE)}")

    def test_installed_with_dispatch(self):
        folder, printed = self.with_dispatch()
        self.assertIn(f"found rehyat {version()}\n", printed)
        isas = available_isas()
        self.expect(isas[-1:], [folder / "consumer"])
        for isa in isas:
            self.expect([isa], [folder / "consumer"], {"REHYAT_ISA": isa})
        self.assertEqual(run([folder / "consumer_c"]), f"{version()} {isas[-1]}\n")
        self.assertIn("isa is mmx, expected auto, scalar, avx2, avx512 or neon",
                      run([folder / "consumer"], {"REHYAT_ISA": "mmx"}, fails=True))

    def test_processors_without_avx(self):
        if not options.emulator:
            self.skip("there is no qemu-x86_64, or this is no x86-64")
        program = self.with_dispatch()[0] / "consumer"
        for cpu in ("core2duo", "Nehalem"):
            emulated = [options.emulator, "-cpu", cpu, program]
            self.expect(["scalar"], emulated)
            for isa in ("avx2", "avx512"):
                self.assertIn(f"isa is {isa}, which this CPU does not have",
                              run(emulated, {"REHYAT_ISA": isa}, fails=True))

    def test_subdirectory_with_one_isa(self):
        folder, _ = self.built("add_subdirectory", 1, "-DWAY=add_subdirectory", "-DDISPATCH=scalar",
                               "-DCMAKE_CXX_STANDARD=23", f"-DCMAKE_CXX_FLAGS={' '.join(NO_EXCEPTIONS)}")
        self.expect(["scalar"], [folder / "consumer"])
        self.assertIn("isa is neon, which is not built into this program",
                      run([folder / "consumer"], {"REHYAT_ISA": "neon"}, fails=True))
        cache = (folder / "CMakeCache.txt").read_text()
        for part in ("BUILD_TESTS", "BUILD_BENCH", "BUILD_EXAMPLES", "INSTALL"):
            self.assertRegex(cache, rf"REHYAT_{part}:BOOL=OFF")  # in another project's build

    def test_fetched_headers_alone(self):
        isa = available_isas()[-1]
        folder, _ = self.built("FetchContent", 2, "-DWAY=FetchContent", "-DCMAKE_CXX_STANDARD=23",
                               f"-DCMAKE_CXX_FLAGS={' '.join(FLAGS[isa])}")
        self.expect([isa], [folder / "consumer"])

    def plain_flags(self):
        """What pkg-config has to say."""
        if shutil.which("pkg-config") is None:
            self.skip("there is no pkg-config")
        others = os.environ.get("PKG_CONFIG_PATH", "")
        folder = {"PKG_CONFIG_PATH": f"{self.prefix}/share/pkgconfig:{others}"}
        self.assertEqual(run(["pkg-config", "--modversion", "rehyat"], folder).strip(), version())
        flags = run(["pkg-config", "--cflags", "--libs", "rehyat"], folder).split()
        self.assertIn(str(self.prefix), " ".join(flags))
        return flags

    def test_pkg_config(self):
        """Each compiler, without a warning."""
        flags = self.plain_flags()
        for turn, name in enumerate(options.compilers):
            standard = ["-std=c++20"] if turn else ["-std=c++2b", *NO_EXCEPTIONS]
            with self.subTest(compiler=name, standard=standard):
                program = options.build_dir / f"plain{turn}"
                run([name, *standard, "-O1", *WARNINGS, *FLAGS["scalar"], CONSUMER / "main.cpp", CONSUMER / "engine.cpp",
                     *flags, "-o", program])
                self.expect(["scalar"], [program])

    def two_engines(self, name, kinds, *libraries):
        """Programs of two engines with different flags, nothing inlined, linked in both orders."""
        flags = [*self.plain_flags(), "-std=c++20", "-O0"]
        objects = []
        for unit, unit_flags in (("main", ["-DREHYAT_TWO_ENGINES"]), *zip(("first", "second"), kinds)):
            objects.append(options.build_dir / f"{name}_{unit}.o")
            run([compiler(0), *flags, *unit_flags, f"-DREHYAT_ENGINE={unit}_engine", "-c",
                 CONSUMER / ("main.cpp" if unit == "main" else "engine.cpp"), "-o", objects[-1]])
        for order in (objects, objects[::-1]):
            program = options.build_dir / f"{name}_{order[0].stem}"
            run([compiler(0), *order, *libraries, *flags, "-o", program])
            yield program

    def test_standard_mdspan(self):
        """The newest compiler, with a standard library that has it."""
        for library in ([], ["-stdlib=libc++"]):
            build = [options.compilers[-1], "-std=c++2b", *library]
            has = subprocess.run([*build, "-fsyntax-only", "-x", "c++", "-include", "mdspan", os.devnull],
                                 stderr=subprocess.DEVNULL, check=False)
            if has.returncode == 0:
                break
        else:
            return self.skip(f"no standard library of {options.compilers[-1]} has <mdspan> (Debian: libc++-19-dev)")
        program = options.build_dir / "mdspan"
        run([*build, "-O1", *WARNINGS, *FLAGS["scalar"], CONSUMER / "mdspan.cpp", *self.plain_flags(), "-o", program])
        self.assertEqual(run([program]), "left.stride(3) is 36, expected 1: the elements of a row side by side\n")

    def test_two_flags_with_dispatch(self):
        defines = ["-DREHYAT_DISPATCH=1", "-DREHYAT_DISPATCH_SCALAR=1"]
        if platform.machine() == "x86_64":
            defines += ["-DREHYAT_DISPATCH_AVX2=1", "-DREHYAT_DISPATCH_AVX512=1"]
        kinds = [[*defines, *BASELINE], [*defines, *FLAGS[available_isas()[-1]]]]
        for program in self.two_engines("dispatch", kinds, self.with_dispatch()[0] / "libengine.a"):
            for isa in available_isas():
                self.expect([isa] * 3, [program], {"REHYAT_ISA": isa})

    def test_two_flags_with_headers_alone(self):
        best = available_isas()[-1]
        for program in self.two_engines("headers", [FLAGS["scalar"], FLAGS[best]]):
            self.expect(["scalar", best, "scalar"], [program])

    def test_other_versions(self):
        major, minor, _ = version().split(".")
        for request in (f"{int(major) + 1}.0", f"{major}.{int(minor) + 1}", f"{version()}.1"):
            self.assertIn("requested version", self.configured("other_version", 0, "-DWAY=find_package",
                                                               f"-DREQUEST={request}", fails=True))

    def test_wrong_isa(self):
        self.assertIn('no instruction set "mmx"',
                      self.configured("mmx", 0, "-DWAY=find_package", "-DDISPATCH=mmx", fails=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source_dir", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("build_dir", type=lambda path: pathlib.Path(path).resolve(), help="is emptied")
    parser.add_argument("compilers", nargs="+", help="C++ compilers")
    parser.add_argument("--emulator", default="", help="qemu-x86_64")
    parser.add_argument("--prefix-path", default="", help="where xsimd's CMake package is")
    parser.add_argument("--require-all", action="store_true", help="what cannot be tested here is a failure")
    parser.parse_args(namespace=options)
    unittest.main(argv=sys.argv[:1])
