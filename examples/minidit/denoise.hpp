#pragma once

#include <cstdint>

#include "model.hpp"

namespace rehyat::minidit {

/// Mean squares over the frames but the first, which is given clean.
struct DenoisingError {
  double predicted = 0;  ///< of x_t + t * velocity - x_0
  double noisy = 0;      ///< of x_t - x_0
};

/// Noises a clip [frames * tokens, channels] to level t with noise(seed), and lets the model predict it.
DenoisingError denoising_error(const Model& model, const Matrix& latents, const Grid& grid, float t,
                               std::uint64_t seed, Attention& attention, ExecutorRef executor);

}  // namespace rehyat::minidit
