#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "options.hpp"

namespace rehyat::cli {

struct CompareOptions {
  std::vector<std::string> files;  ///< one, or two
  std::int64_t first_frame = 0;
  AttendOptions second_run;
  bool has_second_run = false;  ///< any of its options was given
};

/// The subcommand `compare`: how far the second file, or the result of a run, is from the first file, by
/// head. Throws BadInput.
void compare_command(const CompareOptions& options, bool json);

}  // namespace rehyat::cli
