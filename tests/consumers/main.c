/* The same package from C: prints its version and the instruction set. */
#include <rehyat/rehyat.h>
#include <stdio.h>

int main(void) {
  printf("%s %s\n", rehyat_version(), rehyat_isa_name(rehyat_active_isa()));
  return !rehyat_isa_available(rehyat_active_isa());
}
