#include "model.hpp"

#include <cmath>
#include <numbers>
#include <string>

#include "../cli/bad_input.hpp"

namespace rehyat::minidit {
namespace {

using cli::require;

Index extent(const TensorFile& file, const std::string& name, std::size_t axis) {
  const auto shape = file.shape(name);
  return axis < shape.size() ? shape[axis] : 0;  // reading it then says what is wrong
}

Vector read_vector(const TensorFile& file, const std::string& name, Index size) {
  Vector vector(size);
  const std::int64_t shape[] = {size};
  require(file.read_tensor(name, shape, vector.data()));
  return vector;
}

Linear read_linear(const TensorFile& file, const std::string& name, Index in, Index out) {
  Linear linear{Matrix(out, in), {}};
  const std::int64_t shape[] = {out, in};
  require(file.read_tensor(name + ".weight", shape, linear.weight.data()));
  linear.bias = read_vector(file, name + ".bias", out);
  return linear;
}

/// Angles of the rotary embedding, one a pair of elements: 12 turn with time, 10 with height, 10 with width.
class Rotation {
 public:
  static constexpr Index pairs = Model::head_dim / 2, time_pairs = 12, space_pairs = 10;

  explicit Rotation(const Clip& clip) : grid_(clip.grid), first_frame_(clip.first_frame) {}

  /// cos and sin of all tokens of a frame, [tokens, pairs] each.
  struct Turns {
    Matrix cos, sin;
  };
  Turns of_frame(Index frame) const {
    Matrix angle(grid_.tokens(), pairs);
    for (Index token = 0; token < grid_.tokens(); ++token) {
      auto row = angle.row(token);
      fill(row.segment(0, time_pairs), first_frame_ + frame);
      fill(row.segment(time_pairs, space_pairs), token / grid_.width);
      fill(row.segment(time_pairs + space_pairs, space_pairs), token % grid_.width);
    }
    return {angle.array().unaryExpr([](float a) { return std::cos(a); }),
            angle.array().unaryExpr([](float a) { return std::sin(a); })};
  }

 private:
  template <class Segment>
  static void fill(Segment segment, Index position) {
    for (Index i = 0; i < segment.size(); ++i) {
      const float exponent = -static_cast<float>(i) / static_cast<float>(segment.size());
      segment[i] = static_cast<float>(position) * std::pow(10000.0f, exponent);
    }
  }

  Grid grid_;
  Index first_frame_;
};

/// RMS norm of each head, then its rotation.
void norm_and_rotate(Eigen::Ref<Matrix> x, const Vector& gain, const Rotation::Turns& turns) {
  for (Index token = 0; token < x.rows(); ++token) {
    for (Index begin = 0; begin < x.cols(); begin += Model::head_dim) {
      auto head = x.row(token).segment(begin, Model::head_dim);
      const float mean_square = head.squaredNorm() / static_cast<float>(Model::head_dim);
      head.array() *= gain.array() / std::sqrt(mean_square + 1e-6f);
      for (Index pair = 0; pair < Rotation::pairs; ++pair) {
        const float even = head[2 * pair], odd = head[2 * pair + 1];
        const float cos = turns.cos(token, pair), sin = turns.sin(token, pair);
        head[2 * pair] = even * cos - odd * sin;
        head[2 * pair + 1] = even * sin + odd * cos;
      }
    }
  }
}

Matrix layer_norm(const Eigen::Ref<const Matrix>& x) {
  Matrix y = x.colwise() - x.rowwise().mean();
  const Eigen::ArrayXf variance = y.rowwise().squaredNorm().array() / static_cast<float>(x.cols());
  y.array().colwise() *= (variance + 1e-5f).rsqrt();
  return y;
}

Matrix shift_and_scale(Matrix x, const Eigen::Ref<const Vector>& shift,
                       const Eigen::Ref<const Vector>& scale) {
  x.array().rowwise() *= 1 + scale.array();
  x.rowwise() += shift;
  return x;
}

float gelu(float x) { return x * 0.5f * (1 + std::erf(x / std::numbers::sqrt2_v<float>)); }
float silu(float x) { return x / (1 + std::exp(-x)); }

/// One frame's shifts, scales and gates of a block.
class Modulation {
 public:
  Modulation(const Matrix& conditions, bool clean) : all_(conditions.row(clean ? 1 : 0)) {}
  auto part(Index i) const { return all_.segment(i * all_.size() / 6, all_.size() / 6); }

 private:
  Vector all_;
};

}  // namespace

Model::Model(const TensorFile& file) {
  const Index channels = extent(file, "inp.weight", 1), width = extent(file, "inp.weight", 0);
  const Index time_features = extent(file, "t1.weight", 1);
  input_ = read_linear(file, "inp", channels, width);
  if (width % head_dim != 0) {
    throw cli::BadInput("tensor inp.weight gives a width of " + std::to_string(width) +
                        "; expected a multiple of " + std::to_string(head_dim));
  }
  time1_ = read_linear(file, "t1", time_features, width);
  time2_ = read_linear(file, "t2", width, width);
  output_ = read_linear(file, "out", width, channels);
  const auto block_name = [&] { return "b." + std::to_string(layers()) + "."; };
  while (!file.shape(block_name() + "qkv.weight").empty()) {
    const std::string block = block_name();
    blocks_.push_back({.qkv = read_linear(file, block + "qkv", width, 3 * width),
                       .o = read_linear(file, block + "o", width, width),
                       .f1 = read_linear(file, block + "f1", width, 4 * width),
                       .f2 = read_linear(file, block + "f2", 4 * width, width),
                       .modulation = read_linear(file, block + "mod", width, 6 * width),
                       .query_gain = read_vector(file, block + "qg", head_dim),
                       .key_gain = read_vector(file, block + "kg", head_dim)});
  }
  if (blocks_.empty()) throw cli::BadInput("there is no tensor b.0.qkv.weight: the model has no layers");
}

/// [2, width]: what noised and clean frames are conditioned on.
Matrix Model::conditions(float noise_level) const {
  const Index half = time1_.weight.cols() / 2;
  Matrix waves(2, 2 * half);
  for (Index i = 0; i < half; ++i) {
    const float frequency = std::exp(-std::log(1000.0f) * static_cast<float>(i) / static_cast<float>(half));
    const float angle = noise_level * frequency * 100;
    waves(0, i) = std::cos(angle);
    waves(0, half + i) = std::sin(angle);
    waves(1, i) = 1;
    waves(1, half + i) = 0;
  }
  const auto activate = [](const Matrix& x) -> Matrix { return x.unaryExpr(&silu); };
  return activate(time2_(activate(time1_(waves))));
}

Matrix Model::velocity(const Clip& clip, Attention& attention, ExecutorRef executor) const {
  const Index tokens = clip.grid.tokens(), all_tokens = clip.latents.rows();
  const auto each_frame = [&](auto&& task) {
    const auto run = [&](std::int64_t frame, int) { task(frame, frame * tokens); };
    executor.run(clip.frames(), run);
  };
  const Matrix condition = conditions(clip.noise_level);
  const Rotation rotation(clip);
  Matrix x(all_tokens, width()), qkv(all_tokens, 3 * width()), attended(all_tokens, width());
  each_frame([&](Index, Index first) {
    x.middleRows(first, tokens) = input_(clip.latents.middleRows(first, tokens));
  });

  for (int layer = 0; layer < layers(); ++layer) {
    const Block& block = blocks_[static_cast<std::size_t>(layer)];
    const Matrix modulations = block.modulation(condition);
    each_frame([&](Index frame, Index first) {
      const Modulation m(modulations, frame < clip.clean_frames);
      auto rows = qkv.middleRows(first, tokens);
      rows = block.qkv(shift_and_scale(layer_norm(x.middleRows(first, tokens)), m.part(0), m.part(1)));
      const Rotation::Turns turns = rotation.of_frame(frame);
      norm_and_rotate(rows.leftCols(width()), block.query_gain, turns);
      norm_and_rotate(rows.middleCols(width(), width()), block.key_gain, turns);
    });
    const auto view_of = [&](Index part) {
      const float* const data = qkv.data() + part * width();
      return TensorView<const float>{data, 1, all_tokens, heads(), head_dim, 0, 3 * width(), head_dim};
    };
    attention.attend(
        {.layer = layer,
         .q = view_of(0),
         .k = view_of(1),
         .v = view_of(2),
         .out = TensorView<float>::token_major(attended.data(), 1, all_tokens, heads(), head_dim)});
    each_frame([&](Index frame, Index first) {
      const Modulation m(modulations, frame < clip.clean_frames);
      auto rows = x.middleRows(first, tokens);
      rows.array() += block.o(attended.middleRows(first, tokens)).array().rowwise() * m.part(2).array();
      Matrix hidden = block.f1(shift_and_scale(layer_norm(rows), m.part(3), m.part(4)));
      hidden = hidden.unaryExpr(&gelu);
      rows.array() += block.f2(hidden).array().rowwise() * m.part(5).array();
    });
  }

  Matrix out(all_tokens, channels());
  each_frame([&](Index, Index first) {
    out.middleRows(first, tokens) = output_(layer_norm(x.middleRows(first, tokens)));
  });
  return out;
}

}  // namespace rehyat::minidit
