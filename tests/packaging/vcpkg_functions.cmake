# Stands in for the part of vcpkg that runs a port of a header-only library:
#   cmake -DPORT_DIR=... -DCURRENT_PACKAGES_DIR=... -DBUILD_DIR=... -DPREFIX_PATH=... -P vcpkg_functions.cmake
# As there, package files move to share/<port>, and what they think of their place is corrected.

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result)
  if(result)
    message(FATAL_ERROR "${ARGN} ended with ${result}")
  endif()
endfunction()

# arguments_of(<one-value keyword> <list keyword> ${ARGN}): arg_<keyword>; anything else is an error.
macro(arguments_of one list)
  cmake_parse_arguments(arg "" "${one}" "${list}" ${ARGN})
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "${CMAKE_CURRENT_FUNCTION} was passed ${arg_UNPARSED_ARGUMENTS}")
  endif()
endmacro()

function(vcpkg_cmake_configure)
  arguments_of(SOURCE_PATH OPTIONS ${ARGN})
  run(${CMAKE_COMMAND} -S "${arg_SOURCE_PATH}" -B "${BUILD_DIR}" "-DCMAKE_INSTALL_PREFIX=${CURRENT_PACKAGES_DIR}"
      "-DCMAKE_PREFIX_PATH=${PREFIX_PATH}" -DCMAKE_BUILD_TYPE=Release -DFETCHCONTENT_FULLY_DISCONNECTED=ON
      ${arg_OPTIONS})
endfunction()

function(vcpkg_cmake_install)
  run(${CMAKE_COMMAND} --build "${BUILD_DIR}" --target install)
endfunction()

function(vcpkg_cmake_config_fixup)
  arguments_of(CONFIG_PATH "" ${ARGN})
  set(share "${CURRENT_PACKAGES_DIR}/share/${PORT}")
  file(GLOB package_files "${CURRENT_PACKAGES_DIR}/${arg_CONFIG_PATH}/*")
  file(COPY ${package_files} DESTINATION "${share}")
  file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/share/cmake")
  file(GLOB package_files "${share}/*.cmake")
  foreach(file IN LISTS package_files)
    file(READ "${file}" text)
    string(REGEX REPLACE "(PACKAGE_PREFIX_DIR \"\\\${CMAKE_CURRENT_LIST_DIR})/[./]+\"" "\\1/../../\"" text "${text}")
    set(up "get_filename_component(_IMPORT_PREFIX \"\${_IMPORT_PREFIX}\" PATH)\n")
    string(REPLACE "${up}${up}${up}" "${up}${up}" text "${text}")
    file(WRITE "${file}" "${text}")
  endforeach()
endfunction()

function(vcpkg_fixup_pkgconfig)
  arguments_of("" "" ${ARGN})
  file(GLOB_RECURSE package_files "${CURRENT_PACKAGES_DIR}/*.pc")
  foreach(file IN LISTS package_files)
    file(READ "${file}" text)
    if(text MATCHES "${CURRENT_PACKAGES_DIR}")
      message(FATAL_ERROR "${file} names ${CURRENT_PACKAGES_DIR}")
    endif()
  endforeach()
endfunction()

function(vcpkg_install_copyright)
  arguments_of("" FILE_LIST ${ARGN})
  file(INSTALL ${arg_FILE_LIST} DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}" RENAME copyright)
endfunction()

get_filename_component(PORT "${PORT_DIR}" NAME)
include("${PORT_DIR}/portfile.cmake")
