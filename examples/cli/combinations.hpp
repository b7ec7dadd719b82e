#pragma once

#include <string>

#include "options.hpp"

namespace rehyat::cli {

/// Throws BadInput, naming the options, unless they go together.
void check_combination(const AttendOptions& options);

/// Which options go together, as --help and the README show it.
std::string combination_table();

}  // namespace rehyat::cli
