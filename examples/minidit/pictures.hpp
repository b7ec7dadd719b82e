#pragma once
// From latents to pictures: each token is a square patch in a basis of principal components.

#include <cstdint>
#include <vector>

#include "model.hpp"
#include "rehyat/io/tensor_file.hpp"

namespace rehyat::minidit {

/// 8-bit RGB, row by row.
struct Picture {
  Index height = 0, width = 0;
  std::vector<std::uint8_t> rgb;
};

class PatchBasis {
 public:
  /// The tensors mu [patch * patch * 3], U [patch * patch * 3, channels], sc [channels], and the metadata
  /// grid, "18x24": tokens of a frame, height by width. Throws BadInput.
  PatchBasis(const TensorFile& file, Index channels);

  const Grid& grid() const { return grid_; }

  /// A frame's latents [grid tokens, channels] as they look.
  Picture picture(const Eigen::Ref<const Matrix>& latents) const;

 private:
  Grid grid_;
  Index patch_ = 0;   ///< its side, in pixels
  Matrix to_pixels_;  ///< [channels, patch * patch * 3]
  Vector mean_;
};

}  // namespace rehyat::minidit
