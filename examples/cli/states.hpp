#pragma once
// --state-in and --state-out: a clip over several runs.

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "inputs.hpp"
#include "options.hpp"
#include "rehyat/io/file.hpp"
#include "rehyat/recurrent.hpp"

namespace rehyat::cli {

/// Throws BadInput if the state's file can certainly not be written, or if --out would be the same file.
void check_state_paths(const AttendOptions& options);

/// Throws BadInput if a run that others continue does not end with a whole chunk.
void check_whole_chunks(const AttendOptions& options, const Inputs& in);

/// Where the runs of a recurrence begin: before the first frame, or where --state-in stopped.
class StartingPoint {
 public:
  /// Reads the file of --state-in. Throws BadInput.
  explicit StartingPoint(const AttendOptions& options);

  /// Puts the state there. Throws BadInput if the file is not one of this state, or of a clip that has ended.
  void restore(RecurrentState& state) const;

 private:
  std::optional<std::string> path_;
  HeapArray<std::byte> file_;
};

/// The file of a state.
std::vector<std::byte> file_of(const RecurrentState& state);

}  // namespace rehyat::cli
