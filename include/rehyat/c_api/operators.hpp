#pragma once
// The one-shot operators of the C API.

#include <cstddef>
#include <cstdint>

#include "rehyat/attention.hpp"
#include "rehyat/c_api/convert.hpp"
#include "rehyat/c_api/executor.hpp"
#include "rehyat/operation_count.hpp"
#include "rehyat/rehyat.h"

namespace rehyat::c_api {

/// Runs `body` on parameters, or a chunk, that may want a report.
template <class C, class Cpp, class Body>
Status with_report(const C& c, Cpp& cpp, Body body) {
  DenominatorReport report;
  cpp.report = c.report == nullptr ? nullptr : &report;
  REHYAT_RETURN_IF_ERROR(body());
  if (c.report != nullptr) *c.report = {report.smallest, report.smallest_magnitude, report.nan_count};
  return {};
}

template <class Cpp, class C>
rehyat_status operator_workspace_size(const C* parameters, std::int32_t slots, std::size_t* bytes) {
  return call([&]() -> Status {
    const Result<Cpp> cpp = to_cpp<Cpp>("parameters", parameters);
    REHYAT_RETURN_IF_ERROR(cpp.status());
    return store("bytes", bytes, workspace_size(*cpp, slots));
  });
}

template <class Cpp, class C>
rehyat_status run_operator(const C* parameters, Workspace workspace, const rehyat_executor* executor) {
  return call([&]() -> Status {
    Result<Cpp> cpp = to_cpp<Cpp>("parameters", parameters);
    REHYAT_RETURN_IF_ERROR(cpp.status());
    REHYAT_RETURN_IF_ERROR(check_executor(executor));
    CallersExecutor callers(*executor);
    return with_report(*parameters, *cpp, [&] {
      return detail::run(detail::problem_of(*cpp), workspace, callers, default_kernels());
    });
  });
}

template <class Cpp, class C>
rehyat_status operator_count(const C* parameters, rehyat_operation_count* count) {
  return call([&]() -> Status {
    const Result<Cpp> cpp = to_cpp<Cpp>("parameters", parameters);
    REHYAT_RETURN_IF_ERROR(cpp.status());
    if (count == nullptr) return detail::refuse_null("count");
    REHYAT_RETURN_IF_ERROR(detail::check(detail::problem_of(*cpp)));
    const OperationCount n = operation_count(*cpp);
    *count = {.softmax = n.softmax, .feature_map = n.feature_map, .read = n.read, .absorb = n.absorb};
    return {};
  });
}

}  // namespace rehyat::c_api

/// The four functions of an operator; `name` is softmax, hybrid, linear or uniform.
#define REHYAT_DEFINE_OPERATOR(name, Cpp)                                                                \
  extern "C" rehyat_##name##_parameters rehyat_##name##_defaults(void) {                                 \
    return rehyat::c_api::to_c<rehyat_##name##_parameters>(Cpp{});                                       \
  }                                                                                                      \
  extern "C" rehyat_status rehyat_##name##_workspace_size(const rehyat_##name##_parameters* parameters,  \
                                                          int32_t slots, size_t* bytes) {                \
    return rehyat::c_api::operator_workspace_size<Cpp>(parameters, slots, bytes);                        \
  }                                                                                                      \
  extern "C" rehyat_status rehyat_##name##_attention(const rehyat_##name##_parameters* parameters,       \
                                                     void* workspace, size_t workspace_size,             \
                                                     const rehyat_executor* executor) {                  \
    return rehyat::c_api::run_operator<Cpp>(parameters, {workspace, workspace_size}, executor);          \
  }                                                                                                      \
  extern "C" rehyat_status rehyat_##name##_operation_count(const rehyat_##name##_parameters* parameters, \
                                                           rehyat_operation_count* count) {              \
    return rehyat::c_api::operator_count<Cpp>(parameters, count);                                        \
  }

REHYAT_DEFINE_OPERATOR(softmax, rehyat::SoftmaxAttention)
REHYAT_DEFINE_OPERATOR(hybrid, rehyat::HybridAttention)
REHYAT_DEFINE_OPERATOR(linear, rehyat::LinearAttention)
REHYAT_DEFINE_OPERATOR(uniform, rehyat::UniformAttention)

#undef REHYAT_DEFINE_OPERATOR
