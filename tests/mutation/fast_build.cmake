# Prepended to the copied tests/CMakeLists.txt: a build whose time is that of what a mutant changes.
#   REHYAT_MUTATION_ISAS         if not empty, the kernels of these alone are built
#   REHYAT_MUTATION_UNOPTIMISED  kernels are built as the build type says, too
if(REHYAT_MUTATION_ISAS)
  function(rehyat_available_isas result)
    set(${result} ${REHYAT_MUTATION_ISAS} PARENT_SCOPE)
  endfunction()
endif()
if(REHYAT_MUTATION_UNOPTIMISED)
  function(rehyat_unit_optimisation result config)
    set(${result} "" PARENT_SCOPE)
  endfunction()
endif()

function(rehyat_mutation_targets)
  # What the tests include of others, parsed once.
  set(empty ${CMAKE_CURRENT_BINARY_DIR}/mutation_empty.cpp)
  file(CONFIGURE OUTPUT ${empty} CONTENT "")
  add_library(rehyat_mutation_precompiled OBJECT ${empty})
  target_link_libraries(rehyat_mutation_precompiled PRIVATE rehyat_test_support GTest::gtest_main rehyat_warnings)
  target_precompile_headers(rehyat_mutation_precompiled PRIVATE <gtest/gtest.h> <nlohmann/json.hpp> <Eigen/Core>
                            <atomic> <condition_variable> <deque> <filesystem> <fstream> <random> <set> <thread>)

  set(programs "")
  get_property(targets DIRECTORY PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(type ${target} TYPE)
    if(type STREQUAL "EXECUTABLE" AND target MATCHES "_test$")
      string(APPEND programs "$<TARGET_FILE:${target}>\n")
      if(NOT target MATCHES "^(half_)?exp_")  # those have an instruction set's flags
        target_precompile_headers(${target} REUSE_FROM rehyat_mutation_precompiled)
      endif()
    endif()
  endforeach()
  file(GENERATE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/mutation_programs.txt CONTENT "${programs}")
endfunction()
cmake_language(DEFER CALL rehyat_mutation_targets)
