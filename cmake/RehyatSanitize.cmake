# REHYAT_SANITIZE: rehyat's own tests, dispatch units and program under the compiler's sanitizers, which end the program
# at the first finding. Nothing of it reaches projects that use the library.
#
#   address,undefined  memory errors, leaks, undefined behaviour
#   undefined          the latter alone
#   thread             data races
#   memory             reads of uninitialised memory; Clang only. Every library must be built like this too, so only the
#                      programs are built that need none: tests/uninitialised
include_guard(GLOBAL)

set(REHYAT_SANITIZE "" CACHE STRING "Sanitizers for rehyat's own code: address,undefined, undefined, thread or memory")
set_property(CACHE REHYAT_SANITIZE PROPERTY STRINGS "" "address,undefined" undefined thread memory)

if(REHYAT_SANITIZE)
  get_property(known CACHE REHYAT_SANITIZE PROPERTY STRINGS)
  if(NOT REHYAT_SANITIZE IN_LIST known)
    list(JOIN known " | " known)
    message(FATAL_ERROR "REHYAT_SANITIZE is \"${REHYAT_SANITIZE}\", expected one of:${known}")
  endif()
  if(REHYAT_SANITIZE STREQUAL "memory" AND NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "REHYAT_SANITIZE is \"memory\", which only Clang has: configure with -DCMAKE_CXX_COMPILER=clang++ "
                        "(this is ${CMAKE_CXX_COMPILER_ID})")
  endif()

  set(flags -fsanitize=${REHYAT_SANITIZE})
  if(REHYAT_SANITIZE MATCHES "undefined")
    # conversions of floats that do not fit are undefined too; division by zero, which SPEC relies on, is not (IEEE)
    string(APPEND flags ",float-cast-overflow")
  elseif(REHYAT_SANITIZE STREQUAL "memory")
    list(APPEND flags -fsanitize-memory-track-origins)
  endif()

  # the level comes after the build type's, so it is also that of the dispatch units
  add_compile_options(${flags} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1 -O1)
  add_compile_definitions(_GLIBCXX_ASSERTIONS)
  add_link_options(${flags})
endif()
