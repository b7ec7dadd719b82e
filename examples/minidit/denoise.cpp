#include "denoise.hpp"

#include "noise.hpp"

namespace rehyat::minidit {

DenoisingError denoising_error(const Model& model, const Matrix& latents, const Grid& grid, float t,
                               std::uint64_t seed, Attention& attention, ExecutorRef executor) {
  const Index noised = latents.rows() - grid.tokens();
  Matrix x = latents;
  x.bottomRows(noised) *= 1 - t;
  x.bottomRows(noised) += t * noise(seed, grid.tokens(), noised, latents.cols());
  const Matrix predicted =
      x + t * model.velocity({.latents = x, .grid = grid, .noise_level = t, .clean_frames = 1}, attention,
                             executor);
  const auto mean_square = [&](const Matrix& y) {
    return (y - latents).bottomRows(noised).cast<double>().squaredNorm() /
           static_cast<double>(noised * latents.cols());
  };
  return {mean_square(predicted), mean_square(x)};
}

}  // namespace rehyat::minidit
