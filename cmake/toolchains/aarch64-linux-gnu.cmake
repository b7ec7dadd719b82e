# Debian's cross compiler for 64-bit ARM; programs run under qemu-user.
#   apt-get install g++-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user googletest
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)  # GoogleTest asks for one
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)

# Headers are the host's: this compiler searches /usr/include anyway, after its own C library's. Debian keeps xsimd's
# package file under the host's library folder, where a cross build does not look.
file(GLOB host_xsimd /usr/lib/*-linux-gnu/cmake/xsimd)
if(host_xsimd)
  set(xsimd_DIR ${host_xsimd} CACHE PATH "xsimd's CMake package")
endif()
# GoogleTest is a compiled library: build it from the sources of Debian's package googletest.
if(EXISTS /usr/src/googletest/CMakeLists.txt)
  set(FETCHCONTENT_SOURCE_DIR_GTEST /usr/src/googletest CACHE PATH "GoogleTest's sources")
endif()
