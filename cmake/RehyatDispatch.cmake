# Run-time dispatch: one binary with the kernels of several instruction sets.
#
#   target_link_libraries(app PRIVATE rehyat::rehyat)
#   rehyat_add_dispatch(app)                      # all instruction sets that fit the target processor
#   rehyat_add_dispatch(app ISAS scalar avx2)     # these
#   rehyat_add_dispatch(app TRAINING)             # and the kernels that rehyat/train/distillation.hpp needs
#   rehyat_add_dispatch(app ARITHMETIC)           # and those of arithmetic modes besides float32, rehyat/arithmetic.hpp
#
# Adds to <target> one small translation unit per instruction set, and the PUBLIC definitions by which the headers know
# them. Call it for one target of a program; what links to that target sees the same kernels.
include_guard(GLOBAL)
include(CheckCXXSourceCompiles)

# The instruction sets that have kernels for the processor built for.
function(rehyat_available_isas result)
  set(isas scalar)
  if(CMAKE_SIZEOF_VOID_P EQUAL 8)
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
      list(APPEND isas avx2 avx512)
    elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
      list(APPEND isas neon)
    endif()
  endif()
  set(${result} ${isas} PARENT_SCOPE)
endfunction()

# The compiler's flags for one instruction set: what it has and, as the build's own flags may say more
# (-march=native), what it lacks.
function(rehyat_isa_flags result isa)
  set(avx2 -mavx2 -mfma -mf16c)
  if(isa STREQUAL "avx512")
    set(flags ${avx2} -mavx512f -mavx512cd -mavx512dq -mavx512bw -mavx512vl -mprefer-vector-width=512)
  elseif(isa STREQUAL "avx2")
    set(flags ${avx2} -mno-avx512f)
  elseif(isa STREQUAL "scalar" AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set(flags -mno-avx)
  else()
    set(flags)
  endif()
  set(${result} ${flags} PARENT_SCOPE)
endfunction()

# The arithmetic besides float32 that an instruction set has kernels of.
function(rehyat_available_arithmetic result isa)
  set(scalar int8)
  set(avx2 int8)
  set(avx512 int8 float16)
  set(neon int8 float16)
  set(${result} ${${isa}} PARENT_SCOPE)
endfunction()

# What adds an extension of ARMv8.2 to the build's own flags. Those may know of it already, with an -mcpu that an -march
# would contradict.
function(rehyat_arm_flags result extension macro)
  set(flags)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
    string(TOUPPER REHYAT_${extension}_BY_DEFAULT by_default)
    check_cxx_source_compiles("#ifndef ${macro}\n#error\n#endif\nint main() {}" ${by_default})
    if(NOT ${by_default})
      set(flags -march=armv8.2-a+${extension})
    endif()
  endif()
  set(${result} ${flags} PARENT_SCOPE)
endfunction()

# The compiler's flags for the kernels of an instruction set and arithmetic.
function(rehyat_arithmetic_flags result isa arithmetic)
  rehyat_isa_flags(flags ${isa})
  set(avx2_int8 -mavxvnni)
  set(avx512_int8 -mavx512vnni)
  set(avx512_float16 -mavx512fp16)
  rehyat_arm_flags(neon_int8 dotprod __ARM_FEATURE_DOTPROD)
  rehyat_arm_flags(neon_float16 fp16 __ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
  set(${result} ${flags} ${${isa}_${arithmetic}} PARENT_SCOPE)
endfunction()

# Unoptimised, a tile of registers is a tile of memory: kernels get -O1 or more whatever the build type.
function(rehyat_unit_optimisation result config)
  string(TOUPPER "${config}" upper)
  string(REGEX MATCHALL " -O[^ ]*" levels " ${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${upper}}")
  list(POP_BACK levels last)  # the one that the compiler obeys
  if(last MATCHES "^ -O[123]$")
    set(added)
  elseif(last OR upper STREQUAL "DEBUG")
    set(added -O2)
  else()
    set(added -O3)
  endif()
  set(${result} ${added} PARENT_SCOPE)
endfunction()

# One unit of <target>: the kernels of an instruction set in some arithmetic.
function(rehyat_add_isa_unit target arithmetic isa options definitions)
  set(unit "${CMAKE_CURRENT_BINARY_DIR}/rehyat_dispatch/${target}/${arithmetic}_${isa}.cpp")
  if(arithmetic STREQUAL "float32")
    set(template isa_unit.cpp.in)
  else()
    set(template arithmetic_unit.cpp.in)
  endif()
  configure_file("${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${template}" "${unit}" @ONLY)
  set_source_files_properties(
    "${unit}" TARGET_DIRECTORY ${target}
    PROPERTIES COMPILE_OPTIONS "${options};-ffp-contract=off;-fno-exceptions;-fno-rtti"
               COMPILE_DEFINITIONS "$<$<STREQUAL:${isa},scalar>:REHYAT_KERNEL_ISA_SCALAR>;${definitions}"
               SKIP_UNITY_BUILD_INCLUSION ON
               SKIP_PRECOMPILE_HEADERS ON)
  target_sources(${target} PRIVATE "${unit}")
endfunction()

function(rehyat_add_dispatch target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TRAINING;ARITHMETIC" "" "ISAS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "rehyat_add_dispatch: unknown argument ${arg_UNPARSED_ARGUMENTS}; write ISAS before the list")
  endif()
  if(NOT TARGET ${target})
    message(FATAL_ERROR "rehyat_add_dispatch: there is no target ${target}")
  endif()
  rehyat_available_isas(available)
  if(NOT DEFINED arg_ISAS)
    set(arg_ISAS ${available})
  endif()

  set(optimisation)
  if(CMAKE_CONFIGURATION_TYPES)
    foreach(config IN LISTS CMAKE_CONFIGURATION_TYPES)
      rehyat_unit_optimisation(level ${config})
      list(APPEND optimisation "$<$<CONFIG:${config}>:${level}>")
    endforeach()
  else()
    rehyat_unit_optimisation(optimisation "${CMAKE_BUILD_TYPE}")
  endif()

  target_compile_definitions(${target} PUBLIC REHYAT_DISPATCH=1)
  if(arg_TRAINING)
    target_compile_definitions(${target} PUBLIC REHYAT_DISPATCH_TRAINING=1)
  endif()
  list(REMOVE_DUPLICATES arg_ISAS)
  foreach(isa IN LISTS arg_ISAS)
    if(NOT isa IN_LIST available)
      list(JOIN available ", " available)
      message(FATAL_ERROR "rehyat_add_dispatch: no instruction set \"${isa}\" for ${CMAKE_SYSTEM_PROCESSOR}; "
                          "there are ${available}")
    endif()
    rehyat_isa_flags(flags ${isa})
    string(TOUPPER ${isa} upper)
    set(known)
    rehyat_available_arithmetic(arithmetic_of_isa ${isa})
    if(arg_ARITHMETIC)
      foreach(arithmetic IN LISTS arithmetic_of_isa)
        rehyat_arithmetic_flags(arithmetic_flags ${isa} ${arithmetic})
        rehyat_add_isa_unit(${target} ${arithmetic} ${isa} "${arithmetic_flags};${optimisation}" "")
        string(TOUPPER ${arithmetic} upper_arithmetic)
        list(APPEND known REHYAT_UNIT_${upper_arithmetic}=1)
      endforeach()
    endif()
    rehyat_add_isa_unit(${target} float32 ${isa} "${flags};${optimisation}" "${known}")
    target_compile_definitions(${target} PUBLIC REHYAT_DISPATCH_${upper}=1)
  endforeach()
endfunction()
