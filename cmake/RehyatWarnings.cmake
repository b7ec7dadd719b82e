include_guard(GLOBAL)

# Linked privately by rehyat's own tests, benchmarks and examples; never by what uses the library.
add_library(rehyat_warnings INTERFACE)
target_compile_options(rehyat_warnings INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion
                                                 $<$<BOOL:${REHYAT_WERROR}>:-Werror>)
