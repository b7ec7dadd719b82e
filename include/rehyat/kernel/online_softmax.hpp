#pragma once
// Softmax over key blocks, one query a lane: running maximum, running sum, rescaling of what came before.

#include "rehyat/kernel/exp.hpp"
#include "rehyat/kernel/pack.hpp"
#include "rehyat/kernel/tile_shape.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// Range of the scores of a key block, a lane each.
struct BlockRange {
  float max[query_block];
  float min[query_block];
};

/// Running state of the lanes of one query block, in scratch. Scores and maximum are in units of log 2.
struct OnlineSoftmax {
  float* running_max;  ///< of all scores so far; -inf before the first
  float* running_sum;  ///< of exp2(score - max) so far

  inline void start() {
    for (int64_t i = 0; i < query_block; ++i) {
      running_max[i] = -infinity;
      running_sum[i] = 0.0f;
    }
  }

  /// Turns `keys` rows of scores (C vectors each) into weights exp2(score - max) and updates maximum and sum;
  /// `rescale` receives what everything summed before is to be multiplied with.
  ///
  /// While all scores of a lane are -inf its weights are 0 and its maximum stays -inf. A NaN or +inf score
  /// makes the sum and all later ones NaN, whatever the maximum does.
  template <int C>
  inline void add_block(float* scores, int64_t keys, const BlockRange& range, float* rescale) {
    Lanes<C> shift, factor, total;
    bool all_normal = true;
    REHYAT_UNROLL for (int c = 0; c < C; ++c) {
      const V before = V::load(running_max + c * V::lanes);
      const V now = max(before, V::load(range.max + c * V::lanes));
      now.store(running_max + c * V::lanes);
      shift[c] = select(less(now, V::broadcast(lowest)), V::broadcast(0.0f), now);
      factor[c] = exp2_nonpositive(before - shift[c]);
      factor[c].store(rescale + c * V::lanes);
      const V least = V::load(range.min + c * V::lanes) - shift[c];
      all_normal = all_normal && !V::any(less(least, V::broadcast(least_exponent)));
    }
    // nearly always no weight underflows, and a comparison for each is saved
    if (all_normal) {
      make_weights<C>(scores, keys, shift, total, [](V x) { return exp2_normal(x); });
    } else {
      make_weights<C>(scores, keys, shift, total, [](V x) { return exp2_nonpositive(x); });
    }
    REHYAT_UNROLL for (int c = 0; c < C; ++c) {
      fma(V::load(running_sum + c * V::lanes), factor[c], total[c]).store(running_sum + c * V::lanes);
    }
  }

 private:
  template <int C, class Exp2>
  static REHYAT_INLINE void make_weights(float* scores, int64_t keys, const Lanes<C>& shift, Lanes<C>& total,
                                         Exp2 exp2) {
    REHYAT_UNROLL for (int c = 0; c < C; ++c) total[c] = V::broadcast(0.0f);
    for (int64_t key = 0; key < keys; ++key) {
      float* row = scores + key * C * V::lanes;
      REHYAT_UNROLL for (int c = 0; c < C; ++c) {
        const V weight = exp2(V::load(row + c * V::lanes) - shift[c]);
        weight.store(row + c * V::lanes);
        total[c] = total[c] + weight;
      }
    }
  }
};

REHYAT_END_ISA_NAMESPACE
