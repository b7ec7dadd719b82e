#include "states.hpp"

#include <filesystem>
#include <system_error>

#include "attend.hpp"
#include "bad_input.hpp"
#include "rehyat/io/state_file.hpp"

namespace rehyat::cli {
namespace {

/// The same place in the same folder, whatever its name.
bool same_file(const std::string& a, const std::string& b) {
  const auto place = [](const std::string& path) {
    std::error_code unknown;
    const std::filesystem::path found = std::filesystem::weakly_canonical(path, unknown);
    return unknown ? std::filesystem::path(path) : found;
  };
  return place(a) == place(b);
}

}  // namespace

void check_state_paths(const AttendOptions& o) {
  if (o.state_out) check_output_path("--state-out", *o.state_out);
  if (o.out.empty()) return;
  if (o.state_in && same_file(*o.state_in, o.out)) {
    throw BadInput("--out " + o.out + ": is the file of --state-in");
  }
  if (o.state_out && same_file(*o.state_out, o.out)) {
    throw BadInput("--out " + o.out + ": is the file of --state-out");
  }
}

void check_whole_chunks(const AttendOptions& o, const Inputs& in) {
  const std::int64_t frames = in.geometry.frames;
  const std::int64_t chunk_frames = o.chunking(in.geometry.tokens_per_frame).chunk_frames;
  if (!o.state_out || frames % chunk_frames == 0) return;
  throw BadInput(in.q.subject + std::to_string(frames) + " frames; expected a multiple of the " +
                 std::to_string(chunk_frames) +
                 " of a chunk with --state-out: only a last run, without it, may end with a shorter one");
}

StartingPoint::StartingPoint(const AttendOptions& o) : path_(o.state_in) {
  if (path_) file_ = require(detail::read_file(path_->c_str()), "--state-in ");
}

void StartingPoint::restore(RecurrentState& state) const {
  if (!path_) return state.reset();
  const std::string subject = "--state-in " + *path_ + ": ";
  require(restore_state(state, file_.span()), subject);
  if (state.finished()) {
    throw BadInput(subject + "the clip ended after its " + std::to_string(state.frames_seen()) +
                   " frames, with a chunk of fewer than " +
                   std::to_string(state.config().chunking.chunk_frames) + "; nothing can follow");
  }
}

std::vector<std::byte> file_of(const RecurrentState& state) {
  std::vector<std::byte> file(state_file_size(state));
  require(save_state(state, file));
  return file;
}

}  // namespace rehyat::cli
