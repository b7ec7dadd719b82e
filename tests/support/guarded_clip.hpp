#pragma once
// Everything that a call reads or writes, each in memory of its own between inaccessible pages.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "guard_pages.hpp"
#include "rehyat/packed_weights.hpp"
#include "test_clip.hpp"
#include "typed_clip.hpp"

namespace rehyat::support {

/// The inputs of a clip with gaps, read-only, all flush against the page on one side.
class GuardedInputs {
 public:
  /// `packed`: the weights of polynomial feature maps as pack_weights() lays them out.
  GuardedInputs(const TestClip& clip, const ElementTypes& types, Random& random, Flush flush, bool packed)
      : random_(random), flush_(flush) {
    q_ = guard(clip.q_view(), clip.q, types.q);
    k_ = guard(clip.k_view(), clip.k, types.k);
    v_ = guard(clip.v_view(), clip.v, types.v);
    const GivenFeatures given = clip.given();
    given_ = {guard(given.q, clip.given_q, types.given), guard(given.k, clip.given_k, types.given),
              guard(given.q_denominator, clip.given_q_denominator, types.given),
              guard(given.k_denominator, clip.given_k_denominator, types.given)};
    phi_q_ = guard(clip.phi_q, clip.geometry.dim, packed);
    phi_k_ = guard(clip.phi_k, clip.geometry.dim, packed);
  }

  /// Operator parameters or a chunk, on these inputs.
  template <class P>
  void feed(P& parameters) {
    parameters.q = q_, parameters.k = k_, parameters.v = v_;
    if constexpr (requires { parameters.given; }) parameters.given = given_;
    feed_maps(parameters);
    if constexpr (requires { parameters.frames; }) parameters.frames = guard_counts(parameters.frames);
    if constexpr (requires { parameters.tokens; }) parameters.tokens = guard_counts(parameters.tokens);
    if constexpr (requires { parameters.query_tokens; }) {
      parameters.query_tokens = guard_counts(parameters.query_tokens);
      parameters.key_tokens = guard_counts(parameters.key_tokens);
    }
  }
  template <class P>
  void feed_maps(P& parameters) const {
    if constexpr (requires { parameters.phi_q; }) parameters.phi_q = phi_q_, parameters.phi_k = phi_k_;
  }

  std::span<const std::int64_t> guard_counts(std::span<const std::int64_t> counts) {
    if (counts.empty()) return {};
    GuardedBuffer& buffer =
        buffers_.emplace_back(static_cast<std::int64_t>(counts.size()), flush_, sizeof(std::int64_t));
    std::int64_t* copy = static_cast<std::int64_t*>(buffer.start());
    std::copy(counts.begin(), counts.end(), copy);
    buffer.make_read_only();
    return {copy, counts.size()};
  }

  InputView guard(const InputView& view, const std::vector<float>& values, ElementType type) {
    if (view.data == nullptr) return {};
    GuardedTensor& tensor = tensors_.emplace_back(view.batch, view.tokens, view.heads, view.dim,
                                                  Layout::random(random_), flush_, type);
    tensor.assign(values);
    tensor.make_read_only();
    return tensor.input();
  }

  /// Each layer's weights and biases in buffers of exactly their size.
  FeatureMap guard(FeatureMap map, std::int64_t in_dim, bool packed) {
    std::vector<char> memory;
    if (packed && map.kind == FeatureMap::Kind::polynomial) {
      memory.resize(*packed_weights_size(map, in_dim));
      map = *pack_weights(map, in_dim, {memory.data(), memory.size()});
    }
    for (int i = 0; i < map.num_layers; ++i) {
      DenseLayer& layer = map.layers[i];
      const bool panels = map.layout == WeightLayout::panels;
      const std::int64_t rows = panels ? round_up(layer.out_dim, weight_panel) : layer.out_dim;
      layer.weight = guard(layer.weight, map.heads * rows * in_dim);
      layer.bias = guard(layer.bias, map.heads * layer.out_dim);
      in_dim = layer.out_dim;
    }
    return map;
  }

 private:
  const float* guard(const float* values, std::int64_t count) {
    if (values == nullptr) return nullptr;
    GuardedBuffer& buffer = buffers_.emplace_back(count, flush_);
    std::copy_n(values, count, buffer.data());
    buffer.make_read_only();
    return buffer.data();
  }

  Random& random_;
  Flush flush_;
  std::deque<GuardedTensor> tensors_;
  std::deque<GuardedBuffer> buffers_;
  InputView q_, k_, v_;
  GivenFeatures given_;
  FeatureMap phi_q_, phi_k_;
};

/// The outputs, in the same way but writable.
class GuardedOutputs {
 public:
  GuardedOutputs(std::int64_t batch, std::int64_t tokens, std::int64_t heads, std::int64_t value_dim,
                 ElementType out_type, Random& random, Flush flush)
      : out_(batch, tokens, heads, value_dim, Layout::random(random), flush, out_type),
        row_max_(batch, tokens, heads, 1, Layout::random(random), flush),
        row_sum_(batch, tokens, heads, 1, Layout::random(random), flush),
        linear_denominator_(batch, tokens, heads, 1, Layout::random(random), flush),
        written_(batch, tokens, heads, value_dim) {
    for (GuardedTensor* t : {&row_max_, &row_sum_, &linear_denominator_}) t->assign(written_.row_max);
    out_.assign(written_.out);
  }

  template <class P>
  void receive(P& parameters) {
    parameters.out = out_.output();
    parameters.statistics = {row_max_.view(), row_sum_.view(), linear_denominator_.view()};
    parameters.report = &written_.report;
  }

  Written written() const {
    Written w = written_;
    w.out = out_.packed();
    w.row_max = row_max_.packed(), w.row_sum = row_sum_.packed(),
    w.linear_denominator = linear_denominator_.packed();
    return w;
  }
  bool gaps_untouched() const {
    return out_.gaps_untouched() && row_max_.gaps_untouched() && row_sum_.gaps_untouched() &&
           linear_denominator_.gaps_untouched();
  }

 private:
  GuardedTensor out_, row_max_, row_sum_, linear_denominator_;
  Written written_;
};

/// Exactly `bytes` (a multiple of 4) between guard pages.
class GuardedBytes {
 public:
  GuardedBytes(std::size_t bytes, Flush flush)
      : buffer_(static_cast<std::int64_t>(bytes / 4), flush), bytes_(bytes) {
    EXPECT_EQ(bytes % 4, 0u);
  }
  Workspace workspace() { return {buffer_.data(), bytes_}; }
  bool rest_untouched() const {
    return buffer_.canaries_left_outside([](std::size_t) { return true; });
  }

 private:
  GuardedBuffer buffer_;
  std::size_t bytes_;
};

/// A workspace between guard pages. Calls cut it into arrays from the first multiple of 64 on, for which it
/// has 64 bytes more than those take: put 60 bytes too high it leaves none of them behind its last array,
/// which then touches the page.
class GuardedWorkspace {
 public:
  GuardedWorkspace(std::size_t bytes, Flush flush)
      : unused_(flush == Flush::end && bytes > 0
                    ? static_cast<std::size_t>(detail::Arena::alignment) - sizeof(float)
                    : 0),
        bytes_(bytes - unused_, flush) {}
  Workspace get() {
    const Workspace w = bytes_.workspace();
    return {w.data, w.size + unused_};
  }
  bool rest_untouched() const { return bytes_.rest_untouched(); }

 private:
  std::size_t unused_;
  GuardedBytes bytes_;
};

}  // namespace rehyat::support
