#include "inputs.hpp"

#include <algorithm>
#include <span>

#include "bad_input.hpp"
#include "rehyat/detail/check_views.hpp"
#include "rehyat/io/safetensors.hpp"
#include "rehyat/packed_weights.hpp"

namespace rehyat::cli {
namespace {

template <class Array>
[[noreturn]] void refuse(const Named<Array>& a, const std::string& expected) {
  throw BadInput(a.subject + "shape " + detail::ShapeText(a.array.extents()).c_str() + "; expected " +
                 expected);
}

/// With `read`, read_npy or map_npy.
template <class Array>
Named<Array> array_in(const std::string& option, const std::string& path,
                      Result<Array> (&read)(const char* path)) {
  const std::string prefix = option.empty() ? "" : option + " ";
  Named<Array> a{prefix + path + ": ", require(read(path.c_str()), prefix)};
  const auto extents = a.array.extents();
  if (a.array.rank != 3 && a.array.rank != 4) refuse(a, "[frames, tokens, heads, dim] or [N, heads, dim]");
  if (std::find(extents.begin(), extents.end(), 0) != extents.end()) refuse(a, "nothing empty");
  return a;
}

void check_equal(const NamedArray& a, std::int64_t value, std::int64_t expected, const char* of_what,
                 const char* of_whom) {
  if (value != expected) refuse(a, std::to_string(expected) + " " + of_what + " as " + of_whom + " has");
}

/// The same axes, and the same frames and tokens.
void check_same_tokens(const NamedArray& a, const NamedArray& other, const char* other_option) {
  check_equal(a, a.array.rank, other.array.rank, "dimensions", other_option);
  if (a.has_frames()) check_equal(a, a.frames(), other.frames(), "frames", other_option);
  check_equal(a, a.tokens(), other.tokens(), "tokens", other_option);
}

void check_dim(const NamedArray& a) {
  if (a.dim() > detail::max_dim) refuse(a, "at most " + std::to_string(detail::max_dim) + " elements a head");
}

/// Rounds the elements to a type, to nearest even.
void store_as(ElementType type, NamedArray& a) {
  if (type == ElementType::float32) return;
  const auto round = [type](float x) {
    return type == ElementType::bfloat16 ? float_to_bfloat16(x) : float_to_half(x);
  };
  const std::span<const float> values = a.array.data.span();
  a.rounded.resize(values.size());
  std::transform(values.begin(), values.end(), a.rounded.begin(), round);
  a.storage = type;
  a.array.data = {};
}

/// q, k and v against each other.
void check_clip(const NamedArray& q, const NamedArray& k, const NamedArray& v, bool one_length) {
  check_dim(q);
  check_dim(v);
  if (one_length) {
    check_same_tokens(k, q, "--q");
  } else {
    check_equal(k, k.array.rank, q.array.rank, "dimensions", "--q");
  }
  if (q.heads() % k.heads() != 0) {
    refuse(k, "a number of heads that divides the " + std::to_string(q.heads()) + " of --q");
  }
  check_equal(k, k.dim(), q.dim(), "elements a head", "--q");
  check_same_tokens(v, k, "--k");
  check_equal(v, v.heads(), k.heads(), "heads", "--k");
}

std::int64_t frames_of(const AttendOptions& o, const NamedArray& q) {
  if (q.has_frames()) {
    if (o.frames && *o.frames != q.frames())
      refuse(q, std::to_string(*o.frames) + " frames as --frames says");
    return q.frames();
  }
  if (o.frames) {
    if (q.tokens() % *o.frames != 0) {
      refuse(q, "a number of tokens that --frames " + std::to_string(*o.frames) + " divides");
    }
    return *o.frames;
  }
  if (o.schedule != Schedule::softmax) refuse(q, "--frames beside it, or [frames, tokens, heads, dim]");
  return 1;
}

Geometry geometry_of(const AttendOptions& o, const Inputs& in) {
  Geometry g{.frames = frames_of(o, in.q),
             .keys = in.k.tokens(),
             .heads = in.q.heads(),
             .kv_heads = in.k.heads(),
             .head_dim = in.q.dim(),
             .value_dim = in.v.dim()};
  g.tokens_per_frame = in.q.tokens() / g.frames;
  const auto extents = in.q.array.extents();
  g.out_shape.assign(extents.begin(), extents.end());
  g.out_shape.back() = g.value_dim;
  return g;
}

/// The features of one side: tokens and heads of `owner`, `feature_dim` wide unless that is 0.
std::optional<NamedArray> load_features(const char* option, const std::optional<std::string>& path,
                                        const NamedArray& owner, const char* owner_option,
                                        std::int64_t feature_dim) {
  if (!path) return {};
  NamedArray a = load_array(option, *path);
  check_same_tokens(a, owner, owner_option);
  check_equal(a, a.heads(), owner.heads(), "heads", owner_option);
  if (feature_dim > 0) check_equal(a, a.dim(), feature_dim, "features", "--phi-q");
  return a;
}

FeatureMap packed(const FeatureMap& map, std::int64_t head_dim, std::vector<char>& memory) {
  memory.resize(require(packed_weights_size(map, head_dim), "--phi: "));
  return require(pack_weights(map, head_dim, {memory.data(), memory.size()}), "--phi: ");
}

void load_feature_maps(const AttendOptions& o, Inputs& in) {
  if (o.phi) {
    const FeatureMapHeads heads{in.q.heads(), in.k.heads(), in.q.dim()};
    const FeatureMapWeights weights = require(read_feature_maps(o.phi->c_str(), heads), "--phi ");
    in.map_q = packed(weights.phi_q, in.q.dim(), in.packed_q);
    in.map_k = packed(weights.phi_k, in.q.dim(), in.packed_k);
  } else if (o.feature_map) {
    in.map_q = in.map_k = FeatureMap::elementwise(*o.feature_map);
  } else if (o.phi_q) {
    in.phi_q = load_features("--phi-q", o.phi_q, in.q, "--q", 0);
    const std::int64_t features = in.phi_q->dim();
    in.phi_k = load_features("--phi-k", o.phi_k, in.k, "--k", features);
    in.phi_q_den = load_features("--phi-q-den", o.phi_q_den, in.q, "--q", features);
    in.phi_k_den = load_features("--phi-k-den", o.phi_k_den, in.k, "--k", features);
    in.map_q = in.map_k = FeatureMap::given(features);
  }
  in.geometry.feature_dim = in.map_q.feature_dim(in.q.dim());
}

}  // namespace

NamedArray load_array(const std::string& option, const std::string& path) {
  return array_in(option, path, read_npy);
}

MappedArray map_array(const std::string& option, const std::string& path) {
  return array_in(option, path, map_npy);
}

GivenFeatures Inputs::given() const {
  const auto view_of = [](const std::optional<NamedArray>& a) { return a ? a->view() : InputView{}; };
  return {.q = view_of(phi_q),
          .k = view_of(phi_k),
          .q_denominator = view_of(phi_q_den),
          .k_denominator = view_of(phi_k_den)};
}

Inputs load_inputs(const AttendOptions& options) {
  Inputs in{.q = load_array("--q", options.q),
            .k = load_array("--k", options.k),
            .v = load_array("--v", options.v)};
  const bool any_length = options.schedule == Schedule::softmax && !options.frames && !in.q.has_frames();
  check_clip(in.q, in.k, in.v, !any_length);
  in.geometry = geometry_of(options, in);
  load_feature_maps(options, in);
  for (NamedArray* a : {&in.q, &in.k, &in.v}) store_as(options.storage, *a);
  for (auto* a : {&in.phi_q, &in.phi_k, &in.phi_q_den, &in.phi_k_den}) {
    if (*a) store_as(options.storage, **a);
  }
  return in;
}

}  // namespace rehyat::cli
