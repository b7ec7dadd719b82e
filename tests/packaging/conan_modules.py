"""Stands in for the modules of Conan 2 that the recipe imports: what they are asked for is done by cmake, or kept."""
import fnmatch
import pathlib
import shutil
import subprocess
import sys
import types


def run(*command):
    """Runs a command, which has to succeed."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout


class ConanFile:
    """Folders and settings come from whoever makes one; what a recipe asks for is kept."""

    def __init__(self, **attributes):
        self.required, self.prefix_path, self.printed, self.cache_variables = {}, "", "", {}
        self.settings = types.SimpleNamespace(get_safe={"os": "Linux", "compiler.cppstd": "20"}.get)
        self.cpp_info = types.SimpleNamespace(properties={})
        self.cpp_info.set_property = self.cpp_info.properties.__setitem__
        self.info = types.SimpleNamespace(clear=lambda: None)
        self.cpp = types.SimpleNamespace(build=types.SimpleNamespace(bindir=""))
        self.__dict__.update(attributes)

    def requires(self, reference, **traits):
        """Keeps a dependency."""
        self.required[reference] = traits

    def run(self, command, env):  # pylint: disable=unused-argument
        """Runs a program."""
        self.printed = run(command)


class CMake:
    """The three steps, for the folders and variables of a recipe."""

    def __init__(self, recipe):
        self.recipe = recipe

    def configure(self):
        """Without a network: nothing may be fetched."""
        recipe = self.recipe
        variables = {"CMAKE_PREFIX_PATH": recipe.prefix_path, "CMAKE_BUILD_TYPE": "Release",
                     "CMAKE_INSTALL_PREFIX": recipe.package_folder, "CMAKE_CXX_FLAGS_RELEASE": "-O1",
                     "FETCHCONTENT_FULLY_DISCONNECTED": "ON", **recipe.cache_variables}
        run("cmake", "-S", recipe.source_folder, "-B", recipe.build_folder,
            *(f"-D{name}={value}" for name, value in variables.items()))

    def build(self):
        """All targets."""
        run("cmake", "--build", self.recipe.build_folder, "--parallel", "2")

    def install(self):
        """Into the package's folder."""
        run("cmake", "--install", self.recipe.build_folder)


class CMakeToolchain:
    """Its variables are handed to configure."""

    def __init__(self, recipe):
        self.recipe, self.cache_variables = recipe, {}

    def generate(self):
        """Keeps the variables."""
        self.recipe.cache_variables = {name: str(value).upper() for name, value in self.cache_variables.items()}


class CMakeDeps:
    """Dependencies are those of the system."""

    def __init__(self, recipe):
        self.recipe = recipe

    def generate(self):
        """Nothing to do."""


def cmake_layout(recipe):
    """Programs lie in the build folder."""
    recipe.cpp.build.bindir = str(recipe.build_folder)


def check_min_cppstd(recipe, least):
    """Refuses older standards."""
    if int(recipe.settings.get_safe("compiler.cppstd")) < int(least):
        raise AssertionError(f"C++{least} is needed")


def copy(_, pattern, src, dst):
    """Files whose path below src matches, with that path."""
    for path in pathlib.Path(src).rglob("*"):
        relative = path.relative_to(src)
        if path.is_file() and fnmatch.fnmatch(str(relative), pattern):
            (dst / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, dst / relative)


def install():
    """Makes the modules known."""
    modules = {"conan": {"ConanFile": ConanFile},
               "conan.tools": {},
               "conan.tools.build": {"check_min_cppstd": check_min_cppstd, "can_run": lambda _: True},
               "conan.tools.cmake": {"CMake": CMake, "CMakeDeps": CMakeDeps, "CMakeToolchain": CMakeToolchain,
                                     "cmake_layout": cmake_layout},
               "conan.tools.files": {"copy": copy, "load": lambda _, path: pathlib.Path(path).read_text()}}
    for name, members in modules.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(members)
