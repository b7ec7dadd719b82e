#pragma once
// Tensors, feature maps and packed weights of the C API.

#include <cstddef>
#include <cstdint>

#include "rehyat/c_api/convert.hpp"
#include "rehyat/packed_weights.hpp"
#include "rehyat/rehyat.h"
#include "rehyat/tensor_view.hpp"

namespace rehyat::c_api {

template <class Tensor, class Void>
Tensor tensor_of(const TensorView<Void>& view, rehyat_element_type type) {
  Tensor tensor = {};
  copy_shape(tensor, view);
  tensor.data = view.data;
  tensor.type = type;
  return tensor;
}

template <class View, class Tensor>
Tensor slice_tokens(Tensor tensor, std::int64_t begin, std::int64_t count) {
  View view;
  ToCpp("tensor")("tensor", tensor, view);  // an unknown type stays what it is, to be refused
  tensor.data = view.slice_tokens(begin, count).data;
  tensor.tokens = count;
  return tensor;
}

}  // namespace rehyat::c_api

extern "C" rehyat_tensor rehyat_token_major(void* data, rehyat_element_type type, int64_t batch,
                                            int64_t tokens, int64_t heads, int64_t dim) {
  return rehyat::c_api::tensor_of<rehyat_tensor>(
      rehyat::TensorView<void>::token_major(data, batch, tokens, heads, dim), type);
}
extern "C" rehyat_const_tensor rehyat_const_token_major(const void* data, rehyat_element_type type,
                                                        int64_t batch, int64_t tokens, int64_t heads,
                                                        int64_t dim) {
  return rehyat::c_api::tensor_of<rehyat_const_tensor>(
      rehyat::TensorView<const void>::token_major(data, batch, tokens, heads, dim), type);
}
extern "C" rehyat_tensor rehyat_head_major(void* data, rehyat_element_type type, int64_t batch,
                                           int64_t tokens, int64_t heads, int64_t dim) {
  return rehyat::c_api::tensor_of<rehyat_tensor>(
      rehyat::TensorView<void>::head_major(data, batch, tokens, heads, dim), type);
}
extern "C" rehyat_const_tensor rehyat_const_head_major(const void* data, rehyat_element_type type,
                                                       int64_t batch, int64_t tokens, int64_t heads,
                                                       int64_t dim) {
  return rehyat::c_api::tensor_of<rehyat_const_tensor>(
      rehyat::TensorView<const void>::head_major(data, batch, tokens, heads, dim), type);
}
extern "C" rehyat_tensor rehyat_slice_tokens(rehyat_tensor tensor, int64_t begin, int64_t count) {
  return rehyat::c_api::slice_tokens<rehyat::OutputView>(tensor, begin, count);
}
extern "C" rehyat_const_tensor rehyat_const_slice_tokens(rehyat_const_tensor tensor, int64_t begin,
                                                         int64_t count) {
  return rehyat::c_api::slice_tokens<rehyat::InputView>(tensor, begin, count);
}

extern "C" rehyat_feature_map rehyat_feature_map_defaults(void) {
  return rehyat::c_api::to_c<rehyat_feature_map>(rehyat::FeatureMap{});
}
extern "C" rehyat_feature_map rehyat_feature_map_elementwise(rehyat_activation activation) {
  rehyat_feature_map map = rehyat_feature_map_defaults();
  map.kind = REHYAT_FEATURES_ELEMENTWISE;
  map.output_activation = activation;
  return map;
}
extern "C" rehyat_feature_map rehyat_feature_map_given(int64_t feature_dim) {
  return rehyat::c_api::to_c<rehyat_feature_map>(rehyat::FeatureMap::given(feature_dim));
}

extern "C" rehyat_status rehyat_packed_weights_size(const rehyat_feature_map* map, int64_t head_dim,
                                                    size_t* bytes) {
  using namespace rehyat;
  return c_api::call([&]() -> Status {
    const Result<FeatureMap> cpp = c_api::to_cpp<FeatureMap>("map", map);
    REHYAT_RETURN_IF_ERROR(cpp.status());
    return c_api::store("bytes", bytes, packed_weights_size(*cpp, head_dim));
  });
}

extern "C" rehyat_status rehyat_pack_weights(const rehyat_feature_map* map, int64_t head_dim, void* memory,
                                             size_t memory_size, rehyat_feature_map* packed) {
  using namespace rehyat;
  return c_api::call([&]() -> Status {
    const Result<FeatureMap> cpp = c_api::to_cpp<FeatureMap>("map", map);
    REHYAT_RETURN_IF_ERROR(cpp.status());
    if (packed == nullptr) return detail::refuse_null("packed");
    const Result<FeatureMap> result = pack_weights(*cpp, head_dim, {memory, memory_size});
    REHYAT_RETURN_IF_ERROR(result.status());
    *packed = c_api::to_c<rehyat_feature_map>(*result);
    return {};
  });
}
