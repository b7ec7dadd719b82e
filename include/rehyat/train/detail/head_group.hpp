#pragma once
// One task: a batch entry and a kv head with its query heads, chunk by chunk.

#include <algorithm>

#include "rehyat/train/detail/query_block.hpp"

namespace rehyat::train::detail {

/// Memory of one executor slot.
template <class Real>
struct Scratch {
  QueryBlock<Real> queries;
  FeatureBlock<Real> query_features, key_features;
  Real *key, *value, *d_key, *d_value;  ///< a block of linear keys
  Sums<Real> before;                    ///< over the keys before a chunk's softmax set
  Sums<Real> all;                       ///< over all its linear keys, where some come after
  Sums<Real> d_sums;                    ///< gradients with respect to the sums, over some chunks
  /// Bidirectional, for each chunk: the sums over the keys after it, which `all` takes in, and from then on
  /// d_sums over the chunks before it.
  Real* per_chunk = nullptr;
  Real *linear_weight = nullptr,
       *d_linear_sum = nullptr;  ///< of each query of the group: 2nd sweep's factors

  Scratch(const HybridAttention<Real>& p, const HybridGradients<Real>* d, std::int64_t chunks, Arena& arena)
      : queries(p, arena),
        query_features({&p.phi_q, p.given.q, p.given.q_denominator, {}, given(d).q, given(d).q_denominator},
                       p.q.dim, arena),
        key_features({&p.phi_k, p.given.k, p.given.k_denominator, {}, given(d).k, given(d).k_denominator},
                     p.q.dim, arena),
        key(take<Real>(arena, block_tokens, p.q.dim)),
        value(take<Real>(arena, block_tokens, p.v.dim)),
        d_key(take<Real>(arena, block_tokens, p.q.dim)),
        d_value(take<Real>(arena, block_tokens, p.v.dim)) {
    const std::int64_t features = p.phi_q.map.feature_dim(p.q.dim);
    const std::int64_t size = Sums<Real>::size(features, p.v.dim);
    for (Sums<Real>* sums : {&before, &all, &d_sums}) *sums = {take<Real>(arena, size), features, p.v.dim};
    if (p.direction == Direction::bidirectional) per_chunk = take<Real>(arena, chunks, size);
    if (d == nullptr) return;
    linear_weight = take<Real>(arena, p.q.heads / p.k.heads, p.q.tokens);
    d_linear_sum = take<Real>(arena, p.q.heads / p.k.heads, p.q.tokens);
  }

  Sums<Real> of_chunk(std::int64_t chunk) const {
    return {per_chunk + chunk * all.all().size(), all.feature_dim, all.value_dim};
  }

 private:
  static typename HybridGradients<Real>::Given given(const HybridGradients<Real>* d) {
    return d == nullptr ? typename HybridGradients<Real>::Given{} : d->given;
  }
};

/// Batch entry `b` and kv head `g` of a checked call.
template <class Real>
class HeadGroup {
 public:
  HeadGroup(const HybridAttention<Real>& p, std::int64_t b, std::int64_t g, Scratch<Real>& scratch)
      : p_(p), b_(b), g_(g), s_(scratch) {
    const std::int64_t all = p.q.tokens / p.chunking.tokens_per_frame;
    frames_ = p.frames.empty() ? all : p.frames[static_cast<std::size_t>(b)];
    chunks_ = chunk_count(frames_, p.chunking);
  }

  void forward(const TensorView<Real>& out) {
    start_sums();
    for (std::int64_t t = 0; t < chunks_; ++t) {
      const Sums<Real>* sums = sums_of(t);
      for_each_query_block(t, [&](const Tokens& at) {
        attend(t, at, sums, Keep::nothing);
        store(s_.queries.out(), out, at);
      });
      absorb_behind(t);
    }
  }

  /// `d` has the gradients of phi's weights of this task's own; they are added to.
  void backward(const TensorView<const Real>& d_out, const HybridGradients<Real>& d) {
    set_gradients_zero(d);
    s_.query_features.use(d.phi_q);
    s_.key_features.use(d.phi_k);
    const bool keys_learn =
        d.k.data != nullptr || d.v.data != nullptr || s_.key_features.side().wants_gradient();
    start_sums();
    s_.d_sums.all().setZero();
    for (std::int64_t t = 0; t < chunks_; ++t) {
      const Sums<Real>* sums = sums_of(t);
      if (bidirectional()) s_.of_chunk(t).all() = s_.d_sums.all();
      for_each_query_block(t, [&](const Tokens& at) {
        attend(t, at, sums, Keep::slopes);
        query_gradient(t, at, sums, d_out, d);
        if (bidirectional() && sums != nullptr && keys_learn) add_to_d_sums(at);
      });
      absorb_behind(t);
    }
    if (keys_learn) key_sweep(d_out, d);
  }

 private:
  bool bidirectional() const { return p_.direction == Direction::bidirectional; }
  ChunkSets sets(std::int64_t t) const { return hybrid_sets(frames_, t, p_.chunking, p_.direction); }
  bool has_linear(std::int64_t t) const {
    return !sets(t).linear_before.empty() || !sets(t).linear_after.empty();
  }
  std::int64_t group() const { return p_.q.heads / p_.k.heads; }

  /// Visits the query blocks of chunk t, of every query head of the group.
  template <class Visit>
  void for_each_query_block(std::int64_t t, Visit visit) const {
    for (std::int64_t h = g_ * group(); h < (g_ + 1) * group(); ++h)
      for_each_block(sets(t).queries, h, visit);
  }

  /// Visits the blocks of some frames.
  template <class Visit>
  void for_each_block(const Range& frames, std::int64_t head, Visit visit) const {
    const Range tokens = frames.scaled(p_.chunking.tokens_per_frame);
    for (std::int64_t begin = tokens.begin; begin < tokens.end; begin += block_tokens) {
      visit(Tokens{b_, head, begin, std::min(block_tokens, tokens.end - begin)});
    }
  }

  void absorb(const Range& frames, const Sums<Real>& sums) {
    for_each_block(frames, g_, [&](const Tokens& at) {
      s_.key_features.forward(at, load(p_.k, at, s_.key), Keep::nothing);
      sums.add(s_.key_features, load(p_.v, at, s_.value));
    });
  }

  /// Nothing before the first chunk; bidirectional: the sums after each.
  void start_sums() {
    s_.before.all().setZero();
    for (std::int64_t t = chunks_ - 1; bidirectional() && t >= 0; --t) {
      const Sums<Real> after = s_.of_chunk(t);
      if (t == chunks_ - 1) {
        after.all().setZero();
      } else {
        after.all() = s_.of_chunk(t + 1).all();
        absorb(sets(t + 1).queries, after);
      }
    }
  }

  /// The sums over chunk t's linear keys; null if it has none.
  const Sums<Real>* sums_of(std::int64_t t) {
    if (!has_linear(t)) return nullptr;
    if (!bidirectional()) return &s_.before;
    s_.all.all() = s_.before.all() + s_.of_chunk(t).all();
    return &s_.all;
  }

  /// The frames that leave the overlap behind chunk t; none behind the last.
  Range leaving(std::int64_t t) const {
    if (t + 1 >= chunks_) return {};
    return {softmax_begin(t, p_.chunking), softmax_begin(t + 1, p_.chunking)};
  }
  void absorb_behind(std::int64_t t) { absorb(leaving(t), s_.before); }

  Range softmax_tokens(std::int64_t t) const { return sets(t).softmax.scaled(p_.chunking.tokens_per_frame); }

  void attend(std::int64_t t, const Tokens& at, const Sums<Real>* sums, Keep keep) {
    s_.queries.start(at);
    s_.queries.attend(softmax_tokens(t), g_);
    if (sums != nullptr) s_.query_features.forward(at, s_.queries.query(), keep);
    s_.queries.join(sums, s_.query_features);
  }

  void query_gradient(std::int64_t t, const Tokens& at, const Sums<Real>* sums,
                      const TensorView<const Real>& d_out, const HybridGradients<Real>& d) {
    s_.queries.start_gradient(d_out);
    if (d.q.data != nullptr || d.k.data != nullptr || d.v.data != nullptr) {
      const bool max_matters = p_.stabilizer == Stabilizer::row_max &&
                               (sums != nullptr || p_.denominator_epsilon > 0 || p_.denominator_floor > 0);
      s_.queries.softmax_gradient(softmax_tokens(t), g_, max_matters, d);
    }
    if (sums != nullptr) {
      keep_factors(at);
      if (d.q.data != nullptr || s_.query_features.side().wants_gradient()) {
        s_.query_features.clear_gradient();
        s_.queries.feature_gradient(*sums, s_.query_features);
        s_.query_features.backward(at, s_.queries.query(), s_.queries.d_query());
      }
    }
    store(s_.queries.d_query(), d.q, at);
  }

  /// Where the factors of a query block are kept for the second sweep.
  std::int64_t kept(const Tokens& at) const { return (at.head - g_ * group()) * p_.q.tokens + at.begin; }

  void keep_factors(const Tokens& at) {
    for (std::int64_t i = 0; i < at.count; ++i) {
      s_.linear_weight[kept(at) + i] = s_.queries.rows().linear_factor[i] * s_.queries.rows().inverse[i];
      s_.d_linear_sum[kept(at) + i] = s_.queries.d_linear_sum(i);
    }
  }

  /// Adds a block of queries whose features and d_linear() are there.
  void add_to_d_sums(const Tokens& at) {
    s_.d_sums.add(s_.query_features, s_.queries.d_linear(), s_.d_linear_sum + kept(at));
  }

  /// Chunks last to first: what leaves behind chunk t is seen by all later chunks, whose gradients d_sums has
  /// by then, and by those that end before it.
  void key_sweep(const TensorView<const Real>& d_out, const HybridGradients<Real>& d) {
    s_.d_sums.all().setZero();
    for (std::int64_t t = chunks_ - 1; t >= 0; --t) {
      Range keys = leaving(t);
      if (bidirectional() && t == chunks_ - 1) keys = {softmax_begin(t, p_.chunking), frames_};
      while (!keys.empty()) {  // cut where chunks begin: each piece has the same chunks before it
        const std::int64_t chunk = keys.begin / p_.chunking.chunk_frames;
        const Range piece{keys.begin, std::min(keys.end, (chunk + 1) * p_.chunking.chunk_frames)};
        const Sums<Real>* d_sums = &s_.d_sums;
        if (bidirectional()) {
          s_.all.all() = s_.d_sums.all() + s_.of_chunk(chunk).all();
          d_sums = &s_.all;
        }
        for_each_block(piece, g_, [&](const Tokens& at) { key_gradient(at, *d_sums, d); });
        keys.begin = piece.end;
      }
      if (t == 0 || !has_linear(t)) continue;  // nothing is left for the first chunk to reach
      for_each_query_block(t, [&](const Tokens& at) { recompute_d_sums(at, d_out); });
    }
  }

  void recompute_d_sums(const Tokens& at, const TensorView<const Real>& d_out) {
    s_.queries.start(at);
    s_.query_features.forward(at, s_.queries.query(), Keep::nothing);
    Matrix<Real> d_linear = load(d_out, at, s_.queries.d_linear().data());
    for (std::int64_t i = 0; i < at.count; ++i) d_linear.row(i) *= s_.linear_weight[kept(at) + i];
    add_to_d_sums(at);
  }

  void key_gradient(const Tokens& at, const Sums<Real>& d_sums, const HybridGradients<Real>& d) {
    const Matrix<Real> k = load(p_.k, at, s_.key), v = load(p_.v, at, s_.value);
    FeatureBlock<Real>& features = s_.key_features;
    features.forward(at, k, Keep::slopes);
    features.clear_gradient();
    add_product(features.d_numerator(), v, d_sums.A().transpose());
    features.d_denominator().rowwise() += d_sums.z();
    Matrix<Real> d_key(s_.d_key, at.count, p_.k.dim), d_value(s_.d_value, at.count, p_.v.dim);
    d_key.setZero();
    d_value.setZero();
    features.backward(at, k, d_key);
    add_product(d_value, features.numerator(), d_sums.A());
    add(d_key, d.k, at);
    add(d_value, d.v, at);
  }

  /// What belongs to this task alone and may not be written otherwise, or is added to.
  void set_gradients_zero(const HybridGradients<Real>& d) const {
    const std::int64_t tokens = frames_ * p_.chunking.tokens_per_frame;
    const Tokens keys{b_, g_, 0, tokens};
    for (const TensorView<Real>* view : {&d.k, &d.v, &d.given.k, &d.given.k_denominator})
      set_zero(*view, keys);
    for (std::int64_t h = g_ * group(); h < (g_ + 1) * group(); ++h) {
      for (const TensorView<Real>* view : {&d.given.q, &d.given.q_denominator})
        set_zero(*view, {b_, h, 0, tokens});
    }
  }

  const HybridAttention<Real>& p_;
  const std::int64_t b_, g_;
  Scratch<Real>& s_;
  std::int64_t frames_ = 0, chunks_ = 0;
};

}  // namespace rehyat::train::detail
