"""Conan 2 recipe: packages the checkout that it lies in."""
import pathlib
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load

required_conan_version = ">=2.0"


class RehyatConan(ConanFile):
    name = "rehyat"
    description = "CPU attention kernels for video diffusion models"
    license = "MIT"
    topics = ("attention", "simd", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    no_copy_source = True

    @property
    def _checkout(self):
        return pathlib.Path(self.recipe_folder).parents[2]

    def set_version(self):
        header = load(self, str(self._checkout / "include/rehyat/version.hpp"))
        self.version = ".".join(re.findall(r"^#define REHYAT_VERSION_\w+ (\d+)$", header, re.M))

    def export_sources(self):
        for pattern in ("CMakeLists.txt", "LICENSE", "cmake/*", "include/*"):
            copy(self, pattern, src=str(self._checkout), dst=self.export_sources_folder)

    def layout(self):
        cmake_layout(self)

    def requirements(self):
        self.requires("xsimd/[>=8.1.0]", transitive_headers=True)

    def validate(self):
        if self.settings.get_safe("compiler.cppstd"):
            check_min_cppstd(self, 20)

    def package_id(self):
        self.info.clear()

    def generate(self):
        toolchain = CMakeToolchain(self)
        for part in ("TESTS", "BENCH", "EXAMPLES"):
            toolchain.cache_variables[f"REHYAT_BUILD_{part}"] = False
        toolchain.cache_variables["REHYAT_INSTALL"] = True
        toolchain.generate()
        CMakeDeps(self).generate()

    def build(self):
        CMake(self).configure()

    def package(self):
        CMake(self).install()

    def package_info(self):
        # rehyat's own package file, not one that Conan makes up: it has rehyat_add_dispatch and rehyat_add_c_api
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = ["share/cmake/rehyat"]
        self.cpp_info.bindirs = self.cpp_info.libdirs = []
        if self.settings.get_safe("os") in ("Linux", "FreeBSD"):
            self.cpp_info.system_libs = ["pthread"]
