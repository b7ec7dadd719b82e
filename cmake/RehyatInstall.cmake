# Headers, CMake package (with the helpers) and pkg-config file. Nothing here depends on the processor or
# on where it is installed.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/rehyat)
set(pkgconfig_dir ${CMAKE_INSTALL_DATADIR}/pkgconfig)

install(DIRECTORY include/rehyat DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp" PATTERN "*.h")
install(TARGETS rehyat EXPORT rehyatTargets INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT rehyatTargets NAMESPACE rehyat:: DESTINATION ${package_dir})

configure_package_config_file(cmake/rehyatConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/rehyatConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/rehyatConfigVersion.cmake COMPATIBILITY SameMinorVersion
                                 ARCH_INDEPENDENT)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/rehyatConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/rehyatConfigVersion.cmake
              cmake/RehyatCApi.cmake cmake/RehyatDispatch.cmake cmake/RehyatXsimd.cmake cmake/isa_unit.cpp.in
              cmake/arithmetic_unit.cpp.in
        DESTINATION ${package_dir})

file(RELATIVE_PATH include_from_pkgconfig /prefix/${pkgconfig_dir} /prefix/${CMAKE_INSTALL_INCLUDEDIR})
configure_file(cmake/rehyat.pc.in ${CMAKE_CURRENT_BINARY_DIR}/rehyat.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/rehyat.pc DESTINATION ${pkgconfig_dir})

install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/licenses/rehyat)
