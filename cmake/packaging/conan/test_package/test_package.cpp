#include <cstdio>

#include "rehyat/rehyat.hpp"

int main() {
  std::printf("rehyat %d.%d.%d runs on %s\n", REHYAT_VERSION_MAJOR, REHYAT_VERSION_MINOR,
              REHYAT_VERSION_PATCH, rehyat::isa_name(rehyat::active()));
}
