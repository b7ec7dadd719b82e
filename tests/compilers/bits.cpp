// Prints a hash of what all operators, and the kernels for training, give for fixed inputs. Built with
// several compilers and optimisation levels by compare_bits.sh: the hashes must agree per ISA.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "rehyat/rehyat.hpp"
#include "rehyat/train/kernels.hpp"

namespace {

using namespace rehyat;

/// Floats in [-2, 2) without any library function.
class Numbers {
 public:
  std::vector<float> draw(std::int64_t count, float size) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& x : values) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;
      x = (static_cast<float>(state_ >> 40) * 0x1p-22f - 2.0f) * size;
    }
    return values;
  }

 private:
  std::uint64_t state_ = 1;
};

class Hash {
 public:
  void add(const std::vector<float>& values) {
    for (const float x : values) {
      std::uint32_t bits;
      std::memcpy(&bits, &x, sizeof bits);
      if (x - x != 0) std::printf("not finite\n");
      value = (value ^ bits) * 1099511628211u;
    }
  }
  std::uint64_t value = 14695981039346656037u;
};

struct Geometry {
  std::int64_t frames, tokens_per_frame, heads, kv_heads, dim, value_dim;
};

template <class P>
Status call(const P& p, Workspace w, SerialExecutor& e) {
  if constexpr (std::is_same_v<P, SoftmaxAttention>) return softmax_attention(p, w, e);
  if constexpr (std::is_same_v<P, HybridAttention>) return hybrid_attention(p, w, e);
  if constexpr (std::is_same_v<P, LinearAttention>) return linear_attention(p, w, e);
  if constexpr (std::is_same_v<P, UniformAttention>) return uniform_attention(p, w, e);
}

template <class P>
void add_run(Hash& hash, const P& p, std::vector<float>& out) {
  SerialExecutor executor;
  std::vector<char> bytes(*workspace_size(p, 1));
  const Status status = call(p, {bytes.data(), bytes.size()}, executor);
  if (!status.ok()) std::printf("refused: %s\n", status.message());
  hash.add(out);
}

/// Keys and values of one element type, queries and outputs of the other.
template <class Queries, class Keys>
void add_narrow_run(Hash& hash, const std::vector<float>& q, const std::vector<float>& k,
                    const std::vector<float>& v, const Geometry& g, const Chunking& chunking,
                    const FeatureMap& phi_q, const FeatureMap& phi_k) {
  const std::int64_t n = g.frames * g.tokens_per_frame;
  const auto view = []<class T>(std::vector<T>& elements, std::int64_t tokens, std::int64_t heads) {
    return TensorView<T>::token_major(elements.data(), 1, tokens, heads,
                                      static_cast<std::int64_t>(elements.size()) / tokens / heads);
  };
  std::vector<Queries> narrow_q(q.begin(), q.end()), out(static_cast<std::size_t>(n * g.heads * g.value_dim));
  std::vector<Keys> narrow_k(k.begin(), k.end()), narrow_v(v.begin(), v.end());
  HybridAttention p{.q = view(narrow_q, n, g.heads),
                    .k = view(narrow_k, n, g.kv_heads),
                    .v = view(narrow_v, n, g.kv_heads),
                    .out = view(out, n, g.heads),
                    .chunking = chunking,
                    .phi_q = phi_q,
                    .phi_k = phi_k};
  std::vector<char> bytes(*workspace_size(p, 1));
  SerialExecutor executor;
  const Status status = hybrid_attention(p, {bytes.data(), bytes.size()}, executor);
  if (!status.ok()) std::printf("refused: %s\n", status.message());
  std::vector<float> written;
  for (const Queries x : out) written.push_back(static_cast<float>(x));
  hash.add(written);
}

void add_all(Hash& hash, Numbers& numbers, const Geometry& g, Activation hidden, Activation last,
             Stabilizer stabilizer) {
  const std::int64_t n = g.frames * g.tokens_per_frame, hidden_dim = 40, features = 36;
  const auto q = numbers.draw(n * g.heads * g.dim, 1), k = numbers.draw(n * g.kv_heads * g.dim, 1);
  const auto v = numbers.draw(n * g.kv_heads * g.value_dim, 1);
  std::vector<float> out(static_cast<std::size_t>(n * g.heads * g.value_dim));
  std::vector<std::vector<float>> weights;
  const auto map = [&](std::int64_t heads) {
    FeatureMap m{.kind = FeatureMap::Kind::polynomial,
                 .num_layers = 2,
                 .degree = 3,
                 .activation = hidden,
                 .output_activation = last,
                 .heads = heads};
    const auto layer = [&](std::int64_t in, std::int64_t to) {
      weights.push_back(numbers.draw(heads * in * to, 0.2f));
      weights.push_back(numbers.draw(heads * to, 0.1f));
      return DenseLayer{weights[weights.size() - 2].data(), weights.back().data(), to};
    };
    m.layers[0] = layer(g.dim, hidden_dim);
    m.layers[1] = layer(hidden_dim, features);
    return m;
  };
  const FeatureMap phi_q = map(g.heads), phi_k = map(g.kv_heads);
  const auto q_view = TensorView<const float>::token_major(q.data(), 1, n, g.heads, g.dim);
  const auto k_view = TensorView<const float>::head_major(k.data(), 1, n, g.kv_heads, g.dim);
  const auto v_view = TensorView<const float>::token_major(v.data(), 1, n, g.kv_heads, g.value_dim);
  const auto out_view = TensorView<float>::token_major(out.data(), 1, n, g.heads, g.value_dim);
  const Chunking chunking{.tokens_per_frame = g.tokens_per_frame, .chunk_frames = 2, .overlap_frames = 1};
  add_narrow_run<bfloat16, float16>(hash, q, k, v, g, chunking, phi_q, phi_k);
  add_narrow_run<float16, bfloat16>(hash, q, k, v, g, chunking, phi_q, phi_k);
  add_run(hash, SoftmaxAttention{.q = q_view, .k = k_view, .v = v_view, .out = out_view}, out);
  for (const Direction direction : {Direction::causal, Direction::bidirectional}) {
    add_run(hash,
            HybridAttention{.q = q_view,
                            .k = k_view,
                            .v = v_view,
                            .out = out_view,
                            .chunking = chunking,
                            .direction = direction,
                            .phi_q = phi_q,
                            .phi_k = phi_k,
                            .stabilizer = stabilizer},
            out);
    add_run(hash,
            LinearAttention{.q = q_view,
                            .k = k_view,
                            .v = v_view,
                            .out = out_view,
                            .chunking = {g.tokens_per_frame, 2, 0},
                            .direction = direction,
                            .phi_q = phi_q,
                            .phi_k = phi_k},
            out);
  }
  add_run(hash,
          UniformAttention{.q = q_view,
                           .k = k_view,
                           .v = v_view,
                           .out = out_view,
                           .rate = 3,
                           .phi_q = phi_q,
                           .phi_k = phi_k,
                           .stabilizer = stabilizer},
          out);
}

/// Every kernel for training: panels of steps and ragged columns, all activations, both distances.
void add_training(Hash& hash, Numbers& numbers) {
  const TrainingKernels& training = train::training_kernels(default_kernels());
  constexpr std::int64_t rows = 13, steps = 201, columns = 67;
  const auto left = numbers.draw(rows * steps, 1), right = numbers.draw(steps * columns, 1);
  const auto factor = numbers.draw(rows * columns, 1);
  auto to = numbers.draw(rows * columns, 1), slopes = to;
  for (const bool transposed : {false, true}) {
    training.multiply({.to = to.data(),
                       .to_stride = columns,
                       .rows = rows,
                       .columns = columns,
                       .steps = steps,
                       .left = {left.data(), transposed ? rows : steps, transposed},
                       .right = {right.data(), transposed ? steps : columns, transposed},
                       .start = to.data(),
                       .start_stride = columns,
                       .factor = factor.data(),
                       .factor_stride = columns});
    hash.add(to);
  }
  for (const Activation activation : {Activation::identity, Activation::relu, Activation::gelu,
                                      Activation::silu, Activation::softplus, Activation::elu1}) {
    const auto before = numbers.draw(rows * columns, 4);
    training.activate({.before = before.data(),
                       .features = to.data(),
                       .slopes = slopes.data(),
                       .rows = columns,
                       .columns = rows - 1,
                       .activation = activation,
                       .degree = 3});
    hash.add(to), hash.add(slopes);
  }
  for (const bool squares : {false, true}) {
    auto joint = numbers.draw(rows * columns, 1);
    for (std::int64_t i = 1; i <= rows; ++i) joint[static_cast<std::size_t>(i * columns - 1)] += 3;
    const kernel::Distance distance = training.distance({.joint = joint.data(),
                                                         .teacher = right.data(),
                                                         .rows = rows,
                                                         .channels = columns - 1,
                                                         .squares = squares,
                                                         .d_joint = to.data()});
    hash.add(to);
    hash.add({static_cast<float>(distance.difference), static_cast<float>(distance.size)});
  }
}

}  // namespace

int main() {
  Hash hash;
  Numbers numbers;
  add_all(hash, numbers, {5, 70, 2, 1, 33, 49}, Activation::gelu, Activation::softplus, Stabilizer::row_max);
  add_all(hash, numbers, {7, 13, 2, 2, 64, 32}, Activation::silu, Activation::elu1, Stabilizer::none);
  add_all(hash, numbers, {3, 31, 3, 3, 7, 5}, Activation::relu, Activation::softplus, Stabilizer::none);
  add_training(hash, numbers);
  std::printf("%s %016llx\n", isa_name(default_kernels().isa), static_cast<unsigned long long>(hash.value));
}
