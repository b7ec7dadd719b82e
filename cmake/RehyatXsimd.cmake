# Included once the target xsimd exists, by the build and by the installed package.

if(DEFINED xsimd_VERSION AND xsimd_VERSION VERSION_LESS 8.1)
  message(FATAL_ERROR "rehyat needs xsimd 8.1 or later, found ${xsimd_VERSION}")
endif()

# Debian 12 (xsimd 8.1.0) has the target link to xtl, which its headers use only if XSIMD_ENABLE_XTL_COMPLEX is
# defined and which Debian does not have: taken literally it would become -lxtl.
get_target_property(rehyat_xsimd_libraries xsimd INTERFACE_LINK_LIBRARIES)
if("xtl" IN_LIST rehyat_xsimd_libraries AND NOT TARGET xtl)
  list(REMOVE_ITEM rehyat_xsimd_libraries xtl)
  set_target_properties(xsimd PROPERTIES INTERFACE_LINK_LIBRARIES "${rehyat_xsimd_libraries}")
endif()
unset(rehyat_xsimd_libraries)
