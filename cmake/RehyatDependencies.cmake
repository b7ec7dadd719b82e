include_guard(GLOBAL)
include(FetchContent)

# rehyat_find_or_fetch(<package> TARGET <target> REPOSITORY <git url> TAG <tag> [HEADERS <folder>])
#
# Afterwards <target> exists: because the enclosing project has it, because the package is installed, or from the
# given release. With HEADERS the release's own build is not run: <target> is that folder of it.
function(rehyat_find_or_fetch package)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TARGET;REPOSITORY;TAG;HEADERS" "")
  if(NOT TARGET ${arg_TARGET})
    find_package(${package} CONFIG QUIET)
  endif()
  if(TARGET ${arg_TARGET})
    return()
  endif()

  message(STATUS "rehyat: ${package} is not installed, taking its sources (${arg_REPOSITORY} ${arg_TAG})")
  set(options)
  if(DEFINED arg_HEADERS)
    list(APPEND options SOURCE_SUBDIR no-build)
  endif()
  if(CMAKE_VERSION VERSION_GREATER_EQUAL 3.25)
    list(APPEND options SYSTEM)
  endif()
  FetchContent_Declare(${package} GIT_REPOSITORY ${arg_REPOSITORY} GIT_TAG ${arg_TAG} GIT_SHALLOW ON ${options})
  FetchContent_MakeAvailable(${package})
  if(DEFINED arg_HEADERS)
    string(TOLOWER ${package} lower)
    add_library(${arg_TARGET} INTERFACE IMPORTED)
    target_include_directories(${arg_TARGET} INTERFACE "${${lower}_SOURCE_DIR}/${arg_HEADERS}")
  endif()
endfunction()

# rehyat_leave_out(<what> <reason>): says that something which only a part of rehyat needs was not found. With
# REHYAT_REQUIRE_ALL that is an error, unless the build is for another machine.
function(rehyat_leave_out what reason)
  if(REHYAT_REQUIRE_ALL AND NOT CMAKE_CROSSCOMPILING)
    message(FATAL_ERROR "rehyat: ${what} would be left out: ${reason}. Install it, or set REHYAT_REQUIRE_ALL to OFF.")
  endif()
  message(STATUS "rehyat: ${what} left out: ${reason}")
endfunction()

# What only tests, benchmarks and examples need.
function(rehyat_find_gtest)
  set(INSTALL_GTEST OFF)
  set(BUILD_GMOCK OFF)
  rehyat_find_or_fetch(GTest TARGET GTest::gtest_main REPOSITORY https://github.com/google/googletest.git TAG v1.14.0)
endfunction()

function(rehyat_find_benchmark)
  set(BENCHMARK_ENABLE_TESTING OFF)
  set(BENCHMARK_ENABLE_INSTALL OFF)
  rehyat_find_or_fetch(benchmark TARGET benchmark::benchmark_main
                       REPOSITORY https://github.com/google/benchmark.git TAG v1.8.3)
endfunction()

function(rehyat_find_eigen)
  rehyat_find_or_fetch(Eigen3 TARGET Eigen3::Eigen REPOSITORY https://gitlab.com/libeigen/eigen.git TAG 3.4.0 HEADERS .)
endfunction()

function(rehyat_find_json)
  rehyat_find_or_fetch(nlohmann_json TARGET nlohmann_json::nlohmann_json
                       REPOSITORY https://github.com/nlohmann/json.git TAG v3.11.3 HEADERS include)
endfunction()

function(rehyat_find_cli11)
  rehyat_find_or_fetch(CLI11 TARGET CLI11::CLI11 REPOSITORY https://github.com/CLIUtils/CLI11.git TAG v2.4.2
                       HEADERS include)
endfunction()

# MPI::MPI_CXX, in the calling folder, if there is one; never fetched. Of its C++ headers, which are no part of MPI any
# more, nothing is included.
macro(rehyat_find_mpi)
  set(MPI_CXX_SKIP_MPICXX ON CACHE BOOL "Leave out MPI's own C++ bindings")
  find_package(MPI QUIET COMPONENTS CXX)
endmacro()
