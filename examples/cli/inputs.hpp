#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "options.hpp"
#include "rehyat/feature_map.hpp"
#include "rehyat/io/mapped_npy.hpp"
#include "rehyat/io/npy.hpp"
#include "rehyat/parameters.hpp"
#include "rehyat/tensor_view.hpp"

namespace rehyat::cli {

/// An array, and where it came from: "--q clip.npy: ", for messages.
template <class Array>
struct Named {
  std::string subject;
  Array array;
  ElementType storage = ElementType::float32;
  std::vector<std::uint16_t> rounded = {};  ///< the elements of 16 bits, in place of the array's

  bool has_frames() const { return array.rank == 4; }
  std::int64_t frames() const { return array.shape[0]; }  ///< only where has_frames()
  std::int64_t tokens() const { return has_frames() ? array.shape[0] * array.shape[1] : array.shape[0]; }
  std::int64_t heads() const { return array.shape[array.rank - 2]; }
  std::int64_t dim() const { return array.shape[array.rank - 1]; }
  InputView view() const requires std::same_as<Array, NpyArray> {
    InputView view = TensorView<const float>::token_major(array.data.data(), 1, tokens(), heads(), dim());
    if (storage != ElementType::float32) view.data = rounded.data(), view.type = storage;
    return view;
  }
  InputView view() const requires std::same_as<Array, MappedNpy> {
    InputView view = TensorView<const float>::token_major(nullptr, 1, tokens(), heads(), dim());
    view.data = array.data, view.type = array.type;
    return view;
  }
};
using NamedArray = Named<NpyArray>;
using MappedArray = Named<MappedNpy>;

/// Reads [frames, tokens, heads, dim] or [N, heads, dim], nothing of it empty, as float. Throws BadInput that
/// names `option`, if not empty, and the file.
NamedArray load_array(const std::string& option, const std::string& path);

/// The same of a file that stays where it is: its pages come and go as they are used.
MappedArray map_array(const std::string& option, const std::string& path);

struct Geometry {
  std::int64_t frames = 0;
  std::int64_t tokens_per_frame = 0;
  std::int64_t keys = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t value_dim = 0;
  std::int64_t feature_dim = 0;  ///< 0 without a feature map
  std::vector<std::int64_t> out_shape = {};

  std::int64_t queries() const { return frames * tokens_per_frame; }
};

/// Everything that a run reads, checked against each other. Not to be copied: the maps view the weights.
struct Inputs {
  NamedArray q, k, v;
  std::optional<NamedArray> phi_q = {}, phi_k = {}, phi_q_den = {}, phi_k_den = {};
  std::vector<char> packed_q = {}, packed_k = {};  ///< weights of --phi
  FeatureMap map_q = {}, map_k = {};
  Geometry geometry = {};

  GivenFeatures given() const;
};

/// Loads what the options name. Throws BadInput.
Inputs load_inputs(const AttendOptions& options);

}  // namespace rehyat::cli
