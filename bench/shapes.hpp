#pragma once
// The clips that benchmarks run on, named as in their rows: <model>_<frames>x<height>x<width>_<heads>x<head
// dim>.

#include <cstdint>

#include "rehyat/schedule.hpp"

namespace rehyat::bench {

/// A clip, how it is cut into chunks, and the width of phi's two layers. Head and value dim are the same.
struct Shape {
  const char* name;
  std::int64_t frames, height, width;
  std::int64_t heads, kv_heads, head_dim;
  std::int64_t chunk_frames, overlap_frames;
  std::int64_t hidden_dim, feature_dim;

  constexpr std::int64_t tokens_per_frame() const { return height * width; }
  constexpr std::int64_t tokens() const { return frames * tokens_per_frame(); }
  constexpr Chunking chunking() const { return {tokens_per_frame(), chunk_frames, overlap_frames}; }
  /// Whether some query has linear keys; otherwise hybrid attention is exact attention.
  constexpr bool several_chunks() const { return frames > chunk_frames + overlap_frames; }
};

/// Latent tokens of Wan2.1-1.3B (12 heads of 128): 81 frames at 480 x 832, and 121 at 320 x 480, what a phone
/// makes; both also with 2 heads, whose work a head is the same. Then one chunk of the first, a short clip,
/// and small problems: where a call's fixed cost shows, query heads that share kv heads, and sizes that no
/// vector divides.
inline constexpr Shape shapes[] = {
    {"wan_21x30x52_12x128", 21, 30, 52, 12, 12, 128, 3, 1, 256, 256},
    {"wan_21x30x52_2x128", 21, 30, 52, 2, 2, 128, 3, 1, 256, 256},
    {"phone_31x20x30_12x128", 31, 20, 30, 12, 12, 128, 3, 1, 256, 256},
    {"phone_31x20x30_2x128", 31, 20, 30, 2, 2, 128, 3, 1, 256, 256},
    {"chunk_3x30x52_12x128", 3, 30, 52, 12, 12, 128, 3, 1, 256, 256},
    {"clip_8x20x30_12x128", 8, 20, 30, 12, 12, 128, 3, 1, 256, 256},
    {"small_24x8x8_4x64", 24, 8, 8, 4, 4, 64, 4, 1, 64, 64},
    {"grouped_24x8x8_8x64", 24, 8, 8, 8, 2, 64, 4, 1, 64, 64},
    {"odd_17x7x9_3x80", 17, 7, 9, 3, 3, 80, 3, 1, 96, 96},
};

}  // namespace rehyat::bench
