#pragma once
// A clip of one kv head, made ready once: packed inputs, and for each cut the softmax branch and the teacher
// of its scored queries, by the library's kernels.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "rehyat/attention.hpp"
#include "rehyat/train/detail/distilled_clip.hpp"
#include "rehyat/train/distillation_parameters.hpp"

namespace rehyat::train::detail {

/// Heads [first, first + count) of a view.
inline InputView slice_heads(InputView view, std::int64_t first, std::int64_t count) {
  if (view.data != nullptr) view.data = view.row(0, 0, first);
  view.heads = count;
  return view;
}

/// The q, k and v of kv head `g` and of the query heads that read it.
inline DistillationClip slice_group(const DistillationClip& clip, std::int64_t g) {
  const std::int64_t group = clip.q.heads / clip.k.heads;
  return {slice_heads(clip.q, g * group, group), slice_heads(clip.k, g, 1), slice_heads(clip.v, g, 1),
          clip.tokens_per_frame};
}

inline Chunking chunking_of(const Distillation& p, const DistillationClip& clip) {
  return {clip.tokens_per_frame, p.chunk_frames, p.overlap_frames};
}

/// The whole clip: reports, and with `first_query` behind the training frames validation.
inline Cut whole_cut(const Distillation& p, const DistillationClip& clip) {
  return {{0, clip.q.tokens / clip.tokens_per_frame}, 0, chunking_of(p, clip)};
}
inline std::int64_t training_frames(const Distillation& p, const DistillationClip& clip) {
  return clip.q.tokens / clip.tokens_per_frame - p.validation_frames;
}
inline Cut validation_cut(const Distillation& p, const DistillationClip& clip) {
  Cut cut = whole_cut(p, clip);
  cut.first_query = training_frames(p, clip);
  return cut;
}
/// Of the training frames, without the first `shift`.
inline Cut training_cut(const Distillation& p, const DistillationClip& clip, std::int64_t shift) {
  return {{shift, training_frames(p, clip)}, shift, chunking_of(p, clip)};
}
inline std::int64_t shifts(const Distillation& p) { return p.shift_chunks ? p.chunk_frames : 1; }

/// Scratch for the kernels, and for statistics of as many queries as a chunk has.
struct KernelScratch {
  Workspace workspace;
  float *window_max, *teacher_max, *teacher_sum;  ///< of a chunk's queries
  const Kernels* kernels;
};

/// The softmax weight that linear keys have in the teacher, by that of the window's largest key, and how many
/// pairs of a query and a linear key share it.
struct LinearMass {
  double sum = 0, pairs = 0;
};

class PreparedClip {
 public:
  PreparedClip(const Distillation& p, const DistillationClip& clip, Arena& arena)
      : group_(clip.q.heads / clip.k.heads), head_dim_(clip.q.dim), value_dim_(clip.v.dim) {
    const std::int64_t n = clip.q.tokens;
    q_ = take<float>(arena, group_, n, head_dim_);
    k_ = take<float>(arena, n, head_dim_);
    values_ = take<float>(arena, n, value_dim_ + 1);
    packed = {q_, k_, values_, n};
    add_cut(whole_cut(p, clip), arena);
    for (std::int64_t shift = 0; shift < shifts(p); ++shift) add_cut(training_cut(p, clip, shift), arena);
  }

  /// Packs the group's inputs. False where one is not finite.
  bool load(const DistillationClip& group) {
    for (std::int64_t h = 0; h < group_; ++h) copy(group.q, h, q_ + h * packed.tokens * head_dim_, head_dim_);
    copy(group.k, 0, k_, head_dim_);
    copy(group.v, 0, values_, value_dim_ + 1);
    const std::int64_t width = value_dim_ + 1;
    for (std::int64_t i = 0; i < packed.tokens; ++i) values_[i * width + value_dim_] = 1;
    return RowVector<float>(q_, group_ * packed.tokens * head_dim_).allFinite() &&
           RowVector<float>(k_, packed.tokens * head_dim_).allFinite() &&
           RowVector<float>(values_, packed.tokens * width).allFinite();
  }

  /// Softmax branches and teachers of all cuts. Returns the linear keys' mass over the training frames.
  Result<LinearMass> attend(const Distillation& p, const DistillationClip& group,
                            const KernelScratch& scratch) {
    LinearMass mass;
    for (std::size_t c = 0; c < cuts_.size(); ++c) {
      LinearMass of_cut;
      for (std::int64_t h = 0; h < group_; ++h) {
        for (std::int64_t t = 0; t < cuts_[c].cut.chunks(); ++t) {
          if (!cuts_[c].cut.is_scored(t)) continue;
          REHYAT_RETURN_IF_ERROR(attend_chunk(p, group, h, cuts_[c], cuts_[c].cut.chunk(t), scratch, of_cut));
        }
      }
      if (c == 1) mass = of_cut;  // the training frames without a shift
    }
    return mass;
  }

  /// Of every query head: for the whole clip, and for the training frames without the first `shift`.
  const Targets<float>* whole_targets() const { return cuts_[0].targets.data(); }
  const Targets<float>* training_targets(std::int64_t shift) const {
    return cuts_[static_cast<std::size_t>(shift) + 1].targets.data();
  }

  HeadClip<float> packed;

  /// Bytes of workspace that attend() needs.
  static Result<std::size_t> workspace_size(const Distillation& p, const DistillationClip& clip,
                                            const Kernels& kernels) {
    const DistillationClip group = slice_group(clip, 0);
    SoftmaxAttention all =
        softmax(p, group, 0, {0, std::min(p.chunk_frames * clip.tokens_per_frame, clip.q.tokens)},
                {0, clip.q.tokens});
    all.out = TensorView<float>::token_major(nullptr, 1, all.q.tokens, 1, clip.v.dim);
    return rehyat::workspace_size(all, 1, kernels);
  }

 private:
  struct PreparedCut {
    Cut cut;
    std::vector<Targets<float>> targets;  ///< of each query head; they view:
    float *softmax, *teacher;             ///< [group, n, Dv + 1] and [group, n, Dv]
  };

  void add_cut(const Cut& cut, Arena& arena) {
    const Range scored = cut.scored();
    const std::int64_t n = scored.size();
    PreparedCut prepared{
        cut, {}, take<float>(arena, group_, n, value_dim_ + 1), take<float>(arena, group_, n, value_dim_)};
    for (std::int64_t h = 0; h < group_ && prepared.softmax != nullptr; ++h) {
      prepared.targets.push_back(
          {scored.begin, prepared.softmax + h * n * (value_dim_ + 1), prepared.teacher + h * n * value_dim_});
    }
    cuts_.push_back(std::move(prepared));
  }

  /// One head's rows as float, `stride` elements apart.
  static void copy(const InputView& view, std::int64_t head, float* to, std::int64_t stride) {
    for (std::int64_t i = 0; i < view.tokens; ++i, to += stride) {
      const void* const row = view.row(0, i, head);
      const auto bits = static_cast<const std::uint16_t*>(row);
      if (view.type == ElementType::float32) {
        std::copy_n(static_cast<const float*>(row), view.dim, to);
      } else if (view.type == ElementType::float16) {
        std::transform(bits, bits + view.dim, to, half_to_float);
      } else {
        std::transform(bits, bits + view.dim, to, bfloat16_to_float);
      }
    }
  }

  /// Exact attention of some queries of head `h` to some keys.
  static SoftmaxAttention softmax(const Distillation& p, const DistillationClip& group, std::int64_t h,
                                  const Range& queries, const Range& keys) {
    return {.q = slice_heads(group.q, h, 1).slice_tokens(queries.begin, queries.size()),
            .k = group.k.slice_tokens(keys.begin, keys.size()),
            .v = group.v.slice_tokens(keys.begin, keys.size()),
            .scale = p.scale};
  }

  Status attend_chunk(const Distillation& p, const DistillationClip& group, std::int64_t h,
                      const PreparedCut& prepared, const ChunkTokens& at, const KernelScratch& scratch,
                      LinearMass& mass) {
    const Range scored = prepared.cut.scored();
    const std::int64_t n = at.queries.size(), width = value_dim_ + 1,
                       row = h * scored.size() + at.queries.begin - scored.begin;
    float* const branch = prepared.softmax + row * width;
    float* const teacher = prepared.teacher + row * value_dim_;
    const auto column = [n](float* first, std::int64_t stride) {
      return TensorView<float>{first, 1, n, 1, 1, n * stride, stride, 1};
    };
    SerialExecutor serial;
    SoftmaxAttention window = softmax(p, group, h, at.queries, at.softmax);
    window.out = TensorView<float>{branch, 1, n, 1, value_dim_, n * width, width, value_dim_};
    window.statistics = {.row_max = column(scratch.window_max, 1),
                         .row_sum = column(branch + value_dim_, width)};
    REHYAT_RETURN_IF_ERROR(softmax_attention(window, scratch.workspace, serial, *scratch.kernels));
    const Range clip = prepared.cut.frames.scaled(group.tokens_per_frame);
    const Range seen{clip.begin, p.teacher == Teacher::causal ? at.softmax.end : clip.end};
    SoftmaxAttention exact = softmax(p, group, h, at.queries, seen);
    exact.out = TensorView<float>::token_major(teacher, 1, n, 1, value_dim_);
    exact.statistics = {.row_max = column(scratch.teacher_max, 1), .row_sum = column(scratch.teacher_sum, 1)};
    REHYAT_RETURN_IF_ERROR(softmax_attention(exact, scratch.workspace, serial, *scratch.kernels));
    for (std::int64_t i = 0; i < n; ++i) {
      const float row_sum = branch[i * width + value_dim_];
      for (std::int64_t c = 0; c < value_dim_; ++c) branch[i * width + c] *= row_sum;  // the numerator
      mass.sum += std::exp(static_cast<double>(scratch.teacher_max[i] - scratch.window_max[i])) *
                      static_cast<double>(scratch.teacher_sum[i]) -
                  static_cast<double>(row_sum);
      mass.pairs += static_cast<double>(at.linear.size());
    }
    return {};
  }

  std::int64_t group_, head_dim_, value_dim_;
  float *q_, *k_, *values_;
  std::vector<PreparedCut> cuts_;  ///< the whole clip, then the training frames by shift
};

}  // namespace rehyat::train::detail
