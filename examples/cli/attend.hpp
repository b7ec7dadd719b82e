#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "inputs.hpp"
#include "options.hpp"
#include "rehyat/rehyat.hpp"

namespace rehyat::cli {

/// A finished run of attention: what was computed, and what it took.
struct AttendRun {
  AttendOptions options = {};
  Geometry geometry = {};
  Isa isa = Isa::scalar;
  std::vector<float> out = {};  ///< of geometry.out_shape
  double seconds = 0;           ///< the operator alone, median of the repeats
  double gflops = 0;            ///< by the operation counts of the definition
  std::size_t state_bytes = 0;  ///< of the recurrence; of the one that computes the same; 0 if there is none
  std::size_t workspace_bytes = 0;
  std::int64_t frames_before = 0;          ///< that the state of --state-in has seen
  std::vector<std::byte> state_file = {};  ///< for --state-out
  DenominatorReport denominators = {};
};

/// Checks the options, reads the inputs and runs. Throws BadInput. Writes nothing.
AttendRun run_attend(const AttendOptions& options);

/// Throws BadInput if the file `path` of `option` can certainly not be written: better before a long run than
/// after it.
void check_output_path(const std::string& option, const std::string& path);

/// Writes the files of --out and --state-out, those that are asked for: all of them whole, or none.
void write_outputs(const AttendRun& run);

/// The subcommand `attend`: runs, writes the output files, then prints the report.
void attend_command(const AttendOptions& options, bool json);

}  // namespace rehyat::cli
