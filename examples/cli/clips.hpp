#pragma once

#include <string>

#include "inputs.hpp"
#include "rehyat/train/distillation_parameters.hpp"

namespace rehyat::cli {

/// Captured inputs of one attention layer, in files that stay where they are.
struct Clip {
  MappedArray q, k, v;

  train::DistillationClip view() const { return {q.view(), k.view(), v.view(), q.array.shape[1]}; }
};

/// Maps "Q,K,V": three files of [frames, tokens, heads, dim], of the same frames and tokens. Throws BadInput
/// that names `option` and the file.
Clip map_clip(const std::string& option, const std::string& names);

/// Throws BadInput for a NaN or an infinity; reads all of it.
void check_finite(const Clip& clip);

}  // namespace rehyat::cli
