#pragma once
// Hybrid attention of one kv head as a function of phi alone: the softmax branch is given, what remains are
// features, their prefix sums by chunk, and for the gradient a sum over chunks last to first.

#include <algorithm>
#include <cstdint>
#include <span>

#include "rehyat/train/detail/distilled_clip.hpp"
#include "rehyat/train/distillation_parameters.hpp"
#include "rehyat/train/feature_map.hpp"

namespace rehyat::train::detail {

/// Sizes of the largest problem.
struct StudentSize {
  std::int64_t head_dim = 0, value_dim = 0;
  std::int64_t linear_keys = 0;  ///< of a cut's last chunk
  std::int64_t chunks = 0;       ///< of a sweep
};

template <class Real, class Algebra = EigenAlgebra<Real>>
class Student {
 public:
  /// `phi_q` has the group's query heads, `phi_k` one; both must outlive it.
  Student(const Phi<Real>& phi_q, const Phi<Real>& phi_k, const StudentSize& size, Arena& arena,
          const Algebra& algebra = {})
      : algebra_(algebra),
        group_(phi_q.map.heads),
        head_dim_(size.head_dim),
        features_(phi_q.map.feature_dim(size.head_dim)),
        width_(size.value_dim + 1),
        phi_q_(phi_q, head_dim_, rows, rows, arena, algebra),
        phi_k_(phi_k, head_dim_, rows, size.linear_keys, arena, algebra),
        feature_block_(take<Real>(arena, rows, features_)),
        d_block_(take<Real>(arena, rows, features_)),
        joint_(take<Real>(arena, rows, width_)),
        d_joint_(take<Real>(arena, rows, width_)),
        sums_(take<Real>(arena, features_, width_)),
        d_sums_(take<Real>(arena, features_, width_)),
        d_sums_of_chunk_(take<Real>(arena, size.chunks, features_, width_)) {}

  /// The distance to the teacher over `chunks` (ascending) of a cut, with one Targets per query head. With
  /// gradients the derivative of the distance is added to them.
  DistillationError sweep(const HeadClip<Real>& clip, const Cut& cut, const Targets<Real>* targets,
                          std::span<const std::int64_t> chunks, DistillationLoss loss,
                          const PhiGradient<Real>& d_phi_q = {}, const PhiGradient<Real>& d_phi_k = {}) {
    clip_ = clip, loss_ = loss, d_phi_q_ = d_phi_q;
    keep_ = d_phi_q.wanted() ? Keep::slopes : Keep::nothing;
    key_begin_ = cut.linear_begin();
    error_ = {};
    matrix(sums_).setZero();
    std::int64_t absorbed = key_begin_;
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      const ChunkTokens at = cut.chunk(chunks[i]);
      absorb({absorbed, at.linear.end});
      absorbed = at.linear.end;
      if (d_phi_q.wanted()) of_chunk(i).setZero();
      for (std::int64_t h = 0; h < group_; ++h) {
        for_each_block(at.queries, [&](const Range& queries) { score(h, queries, targets[h], i); });
      }
    }
    if (d_phi_k.wanted()) key_sweep(cut, chunks, d_phi_k);
    return error_;
  }

 private:
  /// Tokens of a block: with 128 features, four blocks of float fit a cache of 512 KiB.
  static constexpr std::int64_t rows = 192;
  using Sums = Matrix<Real>;

  Sums matrix(Real* memory) const { return {memory, features_, width_}; }
  Sums of_chunk(std::size_t i) const {
    return matrix(d_sums_of_chunk_ + static_cast<std::int64_t>(i) * features_ * width_);
  }
  ConstMatrix<Real> query(std::int64_t head, const Range& tokens) const {
    return {clip_.q + (head * clip_.tokens + tokens.begin) * head_dim_, tokens.size(), head_dim_};
  }
  ConstMatrix<Real> key(const Range& tokens) const {
    return {clip_.k + tokens.begin * head_dim_, tokens.size(), head_dim_};
  }
  ConstMatrix<Real> values(const Range& tokens) const {
    return {clip_.values + tokens.begin * width_, tokens.size(), width_};
  }

  template <class Visit>
  static void for_each_block(const Range& tokens, Visit visit) {
    for (std::int64_t begin = tokens.begin; begin < tokens.end; begin += rows) {
      visit(Range{begin, std::min(begin + rows, tokens.end)});
    }
  }

  void absorb(const Range& keys) {
    for_each_block(keys, [&](const Range& block) {
      const Matrix<Real> features(feature_block_, block.size(), features_);
      phi_k_.forward(0, key(block), features, keep_, block.begin - key_begin_);
      algebra_.multiply(matrix(sums_), start_at(matrix(sums_)), features.transpose(), values(block));
    });
  }

  /// Adds a block of queries to the error and, where wanted, what comes of it for phi_q and the sums.
  void score(std::int64_t head, const Range& queries, const Targets<Real>& targets, std::size_t chunk) {
    const std::int64_t n = queries.size(), row = queries.begin - targets.first;
    const ConstMatrix<Real> x = query(head, queries);
    const Matrix<Real> features(feature_block_, n, features_), joint(joint_, n, width_);
    const Matrix<Real> d_joint(d_phi_q_.wanted() ? d_joint_ : nullptr, n, width_);
    phi_q_.forward(head, x, features, keep_);
    algebra_.multiply(joint, {targets.softmax + row * width_, width_}, features, matrix(sums_));
    const ConstMatrix<Real> teacher(targets.teacher + row * (width_ - 1), n, width_ - 1);
    const kernel::Distance distance =
        algebra_.distance(joint, teacher, loss_ == DistillationLoss::l2, d_joint);
    error_.difference += distance.difference, error_.size += distance.size;
    if (!d_phi_q_.wanted()) return;

    algebra_.multiply(of_chunk(chunk), start_at(of_chunk(chunk)), features.transpose(), d_joint);
    const Matrix<Real> d(d_block_, n, features_);
    algebra_.multiply(d, {}, d_joint, matrix(sums_).transpose(), phi_q_.slopes(n).data());
    phi_q_.backward(head, x, d, not_wanted(), d_phi_q_);
  }

  /// Chunks last to first: a key is seen by the chunk before which it was absorbed, and by all later ones.
  void key_sweep(const Cut& cut, std::span<const std::int64_t> chunks, const PhiGradient<Real>& d_phi_k) {
    Sums total = matrix(d_sums_);
    total.setZero();
    for (std::size_t i = chunks.size(); i-- > 0;) {
      total += of_chunk(i);
      const std::int64_t before = i == 0 ? key_begin_ : cut.chunk(chunks[i - 1]).linear.end;
      for_each_block({before, cut.chunk(chunks[i]).linear.end}, [&](const Range& block) {
        const std::int64_t first = block.begin - key_begin_;
        const Matrix<Real> d(d_block_, block.size(), features_);
        algebra_.multiply(d, {}, values(block), total.transpose(), phi_k_.slopes(block.size(), first).data());
        phi_k_.backward(0, key(block), d, not_wanted(), d_phi_k, first);
      });
    }
  }

  static Matrix<Real> not_wanted() { return {nullptr, 0, 0}; }

  Algebra algebra_;
  std::int64_t group_, head_dim_, features_, width_;
  PhiBlock<Real, Algebra> phi_q_, phi_k_;
  Real *feature_block_, *d_block_, *joint_, *d_joint_, *sums_, *d_sums_, *d_sums_of_chunk_;
  HeadClip<Real> clip_ = {};
  DistillationLoss loss_ = DistillationLoss::l1;
  PhiGradient<Real> d_phi_q_ = {};
  Keep keep_ = Keep::nothing;
  std::int64_t key_begin_ = 0;  ///< the token of phi_k_'s first row
  DistillationError error_;
};

}  // namespace rehyat::train::detail
