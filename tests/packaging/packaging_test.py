#!/usr/bin/env python3
"""The vcpkg port and the Conan recipe, run with stand-ins for those programs: packaging_test.py SOURCE_DIR BUILD_DIR

Both package the sources, and a project is built against what came out.
"""
import argparse
import json
import pathlib
import re
import runpy
import shutil
import sys
import unittest

import conan_modules
from conan_modules import run

HERE = pathlib.Path(__file__).resolve().parent
options = argparse.Namespace()


def version():
    """What the headers say."""
    header = (options.source_dir / "include/rehyat/version.hpp").read_text()
    return ".".join(re.findall(r"^#define REHYAT_VERSION_\w+ (\d+)$", header, re.M))


def oldest_xsimd():
    """What the build accepts."""
    text = (options.source_dir / "cmake/RehyatXsimd.cmake").read_text()
    return re.search(r"xsimd_VERSION VERSION_LESS ([\d.]+)", text)[1] + ".0"


class VcpkgTest(unittest.TestCase):
    """The overlay port."""

    def setUp(self):
        self.port = options.source_dir / "cmake/packaging/vcpkg/rehyat"

    def test_manifest(self):
        manifest = json.loads((self.port / "vcpkg.json").read_text())
        self.assertEqual((manifest["name"], manifest["version"], manifest["license"]), ("rehyat", version(), "MIT"))
        needed = {dependency["name"]: dependency for dependency in manifest["dependencies"]}
        self.assertEqual(needed, {"vcpkg-cmake": {"name": "vcpkg-cmake", "host": True},
                                  "vcpkg-cmake-config": {"name": "vcpkg-cmake-config", "host": True},
                                  "xsimd": {"name": "xsimd", "version>=": oldest_xsimd()}})

    def test_port(self):
        packages, build = options.build_dir / "vcpkg/packages", options.build_dir / "vcpkg/build"
        run("cmake", f"-DPORT_DIR={self.port}", f"-DCURRENT_PACKAGES_DIR={packages}", f"-DBUILD_DIR={build}",
            f"-DPREFIX_PATH={options.prefix_path}", "-P", HERE / "vcpkg_functions.cmake")
        self.assertEqual(sorted(path.name for path in packages.iterdir()), ["include", "share"])
        self.assertEqual(sorted(path.name for path in (packages / "share").iterdir()), ["pkgconfig", "rehyat"])
        for name in ("copyright", "usage", "rehyatConfig.cmake", "RehyatDispatch.cmake"):
            self.assertTrue((packages / "share/rehyat" / name).is_file(), name)
        consumer = options.build_dir / "vcpkg/consumer"
        run("cmake", "-S", HERE.parent / "consumers", "-B", consumer, "-DWAY=find_package", "-DDISPATCH=scalar",
            f"-DCMAKE_PREFIX_PATH={packages};{options.prefix_path}")
        run("cmake", "--build", consumer)
        self.assertRegex(run(consumer / "consumer"), "^scalar ")


class ConanTest(unittest.TestCase):
    """The recipe and its test."""

    def setUp(self):
        conan_modules.install()
        self.folder = options.source_dir / "cmake/packaging/conan"

    def packaged(self):
        """The recipe, after all that Conan has it do."""
        work = options.build_dir / "conan"
        recipe = runpy.run_path(str(self.folder / "conanfile.py"))["RehyatConan"](
            recipe_folder=str(self.folder), export_sources_folder=work / "sources", source_folder=work / "sources",
            build_folder=work / "build", package_folder=work / "package", prefix_path=options.prefix_path)
        for step in ("set_version", "export_sources", "layout", "requirements", "validate", "package_id", "generate",
                     "build", "package", "package_info"):
            getattr(recipe, step)()
        return recipe

    def test_recipe(self):
        recipe = self.packaged()
        self.assertEqual((recipe.name, recipe.version, recipe.license), ("rehyat", version(), "MIT"))
        self.assertEqual(recipe.required, {f"xsimd/[>={oldest_xsimd()}]": {"transitive_headers": True}})
        self.assertEqual(recipe.cpp_info.properties, {"cmake_find_mode": "none"})
        places = [recipe.package_folder / place for place in recipe.cpp_info.builddirs]
        self.assertEqual([(place / "rehyatConfig.cmake").is_file() for place in places], [True])

        test = runpy.run_path(str(self.folder / "test_package/conanfile.py"))["RehyatTest"](
            source_folder=self.folder / "test_package", build_folder=options.build_dir / "conan/test_package",
            package_folder="", prefix_path=";".join([*map(str, places), options.prefix_path]),
            tested_reference_str=f"rehyat/{version()}")
        for step in ("requirements", "layout", "build", "test"):
            getattr(test, step)()
        self.assertEqual(list(test.required), [f"rehyat/{version()}"])
        self.assertRegex(test.printed, rf"^rehyat {version()} runs on \w+\n$")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source_dir", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("build_dir", type=lambda path: pathlib.Path(path).resolve(), help="is emptied")
    parser.add_argument("--prefix-path", default="", help="where xsimd's CMake package is")
    parser.parse_args(namespace=options)
    shutil.rmtree(options.build_dir, ignore_errors=True)
    unittest.main(argv=sys.argv[:1])
