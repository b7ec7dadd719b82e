#pragma once
// The small video diffusion transformer of model.py, with attention left to whoever runs it.

#include <Eigen/Core>
#include <cstdint>
#include <vector>

#include "rehyat/executor.hpp"
#include "rehyat/io/tensor_file.hpp"
#include "rehyat/tensor_view.hpp"

namespace rehyat::minidit {

using Index = std::int64_t;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::RowVectorXf;

/// Tokens of a frame, row by row.
struct Grid {
  Index height = 0;
  Index width = 0;
  Index tokens() const { return height * width; }
};

/// Consecutive frames of a video, of which the first may be given clean.
struct Clip {
  const Matrix& latents;  ///< [frames * tokens, channels], frame by frame
  Grid grid;
  float noise_level = 0;  ///< t of the other frames
  Index clean_frames = 0;
  Index first_frame = 0;  ///< its position in time

  Index frames() const { return latents.rows() / grid.tokens(); }
};

/// What attention gets from a layer, after RMS norm and rotary embedding: [1, tokens, heads, head_dim].
struct LayerTensors {
  int layer = 0;
  TensorView<const float> q, k, v;
  TensorView<float> out;
};

class Attention {
 public:
  virtual ~Attention() = default;
  virtual void attend(const LayerTensors& tensors) = 0;
};

/// y = x W^T + b
struct Linear {
  Matrix weight;  ///< [out, in]
  Vector bias;

  Matrix operator()(const Eigen::Ref<const Matrix>& x) const {
    Matrix y = x * weight.transpose();
    y.rowwise() += bias;
    return y;
  }
};

class Model {
 public:
  static constexpr Index head_dim = 64;

  /// Takes the widths and the number of layers from the tensors. Throws BadInput where one is missing.
  explicit Model(const TensorFile& file);

  Index channels() const { return input_.weight.cols(); }
  Index width() const { return input_.weight.rows(); }
  Index heads() const { return width() / head_dim; }
  int layers() const { return static_cast<int>(blocks_.size()); }

  /// x_0 - noise, as predicted, [frames * tokens, channels]. Frames are computed on their own but for
  /// attention, in parallel on `executor`: a frame's bits depend neither on the threads nor on how a video is
  /// cut into clips.
  Matrix velocity(const Clip& clip, Attention& attention, ExecutorRef executor) const;

 private:
  struct Block {
    Linear qkv, o, f1, f2, modulation;
    Vector query_gain, key_gain;
  };

  Matrix conditions(float noise_level) const;

  Linear input_, time1_, time2_, output_;
  std::vector<Block> blocks_;
};

}  // namespace rehyat::minidit
