#include "pictures.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "../cli/bad_input.hpp"

namespace rehyat::minidit {
namespace {

constexpr Index colors = 3;

Grid parse_grid(const TensorFile& file) {
  const std::string* const text = file.metadata("grid");
  Grid grid;
  char rest = 0;
  constexpr Index most = 4096;
  if (text == nullptr || std::sscanf(text->c_str(), "%ldx%ld%c", &grid.height, &grid.width, &rest) != 2 ||
      grid.height < 1 || grid.width < 1 || grid.height > most || grid.width > most) {
    throw cli::BadInput("metadata grid is " + (text == nullptr ? "missing" : "'" + *text + "'") +
                        "; expected the tokens of a frame, height by width, as 18x24");
  }
  return grid;
}

}  // namespace

PatchBasis::PatchBasis(const TensorFile& file, Index channels) : grid_(parse_grid(file)) {
  const auto shape = file.shape("mu");
  const Index size = shape.empty() ? 0 : shape.front();
  patch_ = std::lround(std::sqrt(static_cast<double>(size / colors)));
  Matrix components(size, channels);
  Vector scale(channels);
  mean_.resize(size);
  const std::int64_t vector_shape[] = {patch_ * patch_ * colors}, scale_shape[] = {channels};
  const std::int64_t matrix_shape[] = {size, channels};
  cli::require(file.read_tensor("mu", vector_shape, mean_.data()));
  cli::require(file.read_tensor("U", matrix_shape, components.data()));
  cli::require(file.read_tensor("sc", scale_shape, scale.data()));
  to_pixels_ = scale.cwiseInverse().asDiagonal() * components.transpose();
}

Picture PatchBasis::picture(const Eigen::Ref<const Matrix>& latents) const {
  Matrix patches = latents * to_pixels_;
  patches.rowwise() += mean_;
  Picture picture{grid_.height * patch_, grid_.width * patch_, {}};
  picture.rgb.resize(static_cast<std::size_t>(picture.height * picture.width * colors));
  auto next = picture.rgb.begin();
  const Index patch_row = patch_ * colors;
  for (Index y = 0; y < picture.height; ++y) {
    for (Index column = 0; column < grid_.width; ++column) {
      const auto row =
          patches.row(y / patch_ * grid_.width + column).segment(y % patch_ * patch_row, patch_row);
      for (const float value : row) {  // in [-1, 1]
        *next++ = static_cast<std::uint8_t>(std::lround(std::clamp((value + 1) * 127.5f, 0.0f, 255.0f)));
      }
    }
  }
  return picture;
}

}  // namespace rehyat::minidit
