#pragma once
// What the C++ peers share: a clip from a folder, and the loop that answers compare.py on stdin and stdout.

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "rehyat/io/npy.hpp"
#include "rehyat/rehyat.hpp"

namespace rehyat::bench {

/// A folder's clip.json and arrays; q, k, v are [heads, tokens, head_dim].
struct Clip {
  explicit Clip(const std::string& path);

  std::int64_t tokens() const { return frames * tokens_per_frame; }
  /// Elements of one head of q, k, v or the output.
  std::int64_t head_size() const { return tokens() * head_dim; }
  /// Head `head` of q, k or v.
  const float* head(const NpyArray& array, std::int64_t head) const {
    return array.data.data() + head * head_size();
  }

  std::string folder;
  std::int64_t frames, tokens_per_frame, heads, head_dim, chunk_frames, overlap_frames;
  NpyArray q, k, v;
};

/// An array of a folder; throws std::runtime_error, as everything here does.
NpyArray read_array(const std::string& folder, const std::string& name);

/// How compare.py calls a peer's program: [variant] <operator> <threads> <folder>.
struct Call {
  std::string variant;    ///< of programs that have several
  std::string operation;  ///< exact, hybrid or hybrid_recurrent
  int threads = 1;
};

/// A library that is ready to run an operator on a clip.
class Peer {
 public:
  virtual ~Peer() = default;
  /// The whole clip, once: what is timed.
  virtual void run() = 0;
  /// What the last run computed, [heads, tokens, head_dim].
  virtual std::vector<float> output() = 0;
  /// At least "version" and "arithmetic", the types that it computes with.
  virtual nlohmann::json about() const = 0;
};

struct PeerProgram {
  /// Bytes for scores of queries times keys; 0 where they are not stored.
  double (*quadratic_bytes)(const Clip&, const Call&);
  /// The preparation: outside of the timing, inside of the memory.
  std::unique_ptr<Peer> (*prepare)(const Clip&, const Call&);
};

/// Answers every line of stdin with a line of JSON: at the start {"quadratic_bytes"}, then `prepare`
/// {"version", "arithmetic", ...}, `run` {"seconds"}, `write <npy file>` (the last run's output) {}, `peak`
/// {"gflops"} of register-only multiply-adds on as many threads; {"error"} ends it, as `quit` does.
int serve(int argc, char** argv, const PeerProgram& program);

}  // namespace rehyat::bench
