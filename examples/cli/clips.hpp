#pragma once

#include <string>

#include "inputs.hpp"
#include "rehyat/train/distillation_parameters.hpp"

namespace rehyat::cli {

/// Captured inputs of one attention layer.
struct Clip {
  NamedArray q, k, v;

  train::DistillationClip view() const { return {q.view(), k.view(), v.view(), q.array.shape[1]}; }
};

/// Loads "Q,K,V": three files of [frames, tokens, heads, dim], of the same frames and tokens. Throws BadInput
/// that names `option` and the file.
Clip load_clip(const std::string& option, const std::string& names);

}  // namespace rehyat::cli
