#pragma once
// C structs to C++ ones, refusing what C can say and C++ cannot, and back.

#include <cinttypes>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

#include "rehyat/c_api/members.hpp"
#include "rehyat/detail/check.hpp"
#include "rehyat/status.hpp"

namespace rehyat::c_api {

// The numbers of C's lists are those of C++, 0 to these.
constexpr ElementType last_of(ElementType) { return ElementType::float16; }
constexpr Direction last_of(Direction) { return Direction::bidirectional; }
constexpr Stabilizer last_of(Stabilizer) { return Stabilizer::none; }
constexpr Arithmetic last_of(Arithmetic) { return Arithmetic::float16; }
constexpr Activation last_of(Activation) { return Activation::elu1; }
constexpr FeatureMap::Kind last_of(FeatureMap::Kind) { return FeatureMap::Kind::given; }
constexpr WeightLayout last_of(WeightLayout) { return WeightLayout::panels; }
constexpr RecurrentSchedule last_of(RecurrentSchedule) { return RecurrentSchedule::linear; }

/// TensorView or AnyView.
template <class T>
concept View = requires(const T& view) {
  view.row(0, 0, 0);
};

template <class To, class From>
void copy_shape(To& to, const From& from) {
  to.batch = from.batch, to.tokens = from.tokens, to.heads = from.heads, to.dim = from.dim;
  to.batch_stride = from.batch_stride, to.token_stride = from.token_stride, to.head_stride = from.head_stride;
}

/// Copies C to C++. What is wrong is remembered, the first of it, by its path: "given.q.type".
class ToCpp {
 public:
  /// `name` is the argument; its members are called by theirs, as in the messages of the operators.
  explicit ToCpp(const char* name) : argument_(name) {}

  const Status& status() const { return status_; }

  template <class T>
  requires std::is_arithmetic_v<T> || std::is_pointer_v<T>
  void operator()(const char*, const T& c, T& cpp) { cpp = c; }
  void operator()(const char*, const std::int32_t& c, bool& cpp) { cpp = c != 0; }

  template <class E>
  requires std::is_enum_v<E>
  void operator()(const char* name, const std::int32_t& c, E& cpp) {
    const auto last = static_cast<std::int32_t>(last_of(E{}));
    if (c >= 0 && c <= last) {
      cpp = static_cast<E>(c);
    } else {
      refuse(Status::error(StatusCode::invalid_argument, "%s%s is %" PRId32 ", expected 0 to %" PRId32, path_,
                           name, c, last));
    }
  }

  template <class C, View V>
  void operator()(const char* name, C& c, V& cpp) {
    copy_shape(cpp, c);
    cpp.data = static_cast<decltype(cpp.data)>(c.data);
    if constexpr (requires { cpp.type; }) {
      inside(name, [&] { (*this)("type", c.type, cpp.type); });
    } else if (c.type != REHYAT_FLOAT32 && c.data != nullptr) {
      refuse(Status::error(StatusCode::invalid_argument, "%s%s.type is %" PRId32 ", expected 0 (float32)",
                           path_, name, c.type));
    }
  }

  template <class C, class Cpp>
  requires(std::is_class_v<C> && !View<Cpp>) void operator()(const char* name, C& c, Cpp& cpp) {
    inside(name, [&] { members(*this, c, cpp); });
  }

  template <class C>
  void begin(const C& c) {
    if (c.struct_size == sizeof(C)) return;
    const bool whole = *path_ == '\0';
    refuse(Status::error(StatusCode::invalid_argument,
                         "%s%sstruct_size is %zu, expected %zu, as in what its defaults function returns",
                         whole ? argument_ : path_, whole ? "." : "", c.struct_size, sizeof(C)));
  }
  void optional(const float* c, std::optional<float>& cpp) {
    if (c != nullptr) cpp = *c;
  }
  void counts(const std::int64_t* c, std::span<const std::int64_t>& cpp, std::int64_t size) {
    if (c != nullptr && size > 0) cpp = {c, static_cast<std::size_t>(size)};
  }

 private:
  template <class F>
  void inside(const char* name, F copy_members) {
    const std::size_t length = std::strlen(path_);
    std::snprintf(path_ + length, sizeof path_ - length, "%s.", name);
    copy_members();
    path_[length] = '\0';
  }

  void refuse(const Status& status) {
    if (status_.ok()) status_ = status;
  }

  const char* argument_;
  char path_[64] = {};
  Status status_;
};

/// Copies C++ to C: what the defaults of C are made from.
struct ToC {
  template <class T>
  requires std::is_arithmetic_v<T> || std::is_pointer_v<T>
  void operator()(const char*, T& c, const T& cpp) { c = cpp; }

  template <class T>
  requires std::is_enum_v<T> || std::same_as<T, bool>
  void operator()(const char*, std::int32_t& c, const T& cpp) { c = static_cast<std::int32_t>(cpp); }

  template <class C, View V>
  void operator()(const char*, C& c, V& cpp) {
    copy_shape(c, cpp);
    c.data = cpp.data;
    if constexpr (requires { cpp.type; }) c.type = static_cast<rehyat_element_type>(cpp.type);
  }

  template <class C, class Cpp>
  requires(std::is_class_v<C> && !View<Cpp>) void operator()(const char*, C& c, Cpp& cpp) {
    members(*this, c, cpp);
  }

  template <class C>
  void begin(C& c) {
    c.struct_size = sizeof(C);
  }
  void optional(const float*& c, const std::optional<float>&) { c = nullptr; }
  void counts(const std::int64_t*& c, std::span<const std::int64_t>, std::int64_t) { c = nullptr; }
};

/// What a C argument says in C++.
template <class Cpp, class C>
Result<Cpp> to_cpp(const char* name, const C* c) {
  if (c == nullptr) return detail::refuse_null(name);
  ToCpp convert(name);
  convert.begin(*c);  // before anything behind struct_size is read
  if (!convert.status().ok()) return convert.status();
  C copy = *c;
  Cpp cpp;
  if constexpr (std::same_as<Cpp, FeatureMap>) {
    convert(name, copy, cpp);  // "map.layout", as pack_weights() says
  } else {
    members(convert, copy, cpp);
  }
  if (!convert.status().ok()) return convert.status();
  return cpp;
}

/// What a C++ value is in C, without what it borrows from elsewhere: scale, counts.
template <class C, class Cpp>
C to_c(Cpp cpp) {
  C c = {};
  ToC convert;
  members(convert, c, cpp);
  return c;
}

inline rehyat_status to_c(const Status& status) {
  rehyat_status c = {};
  c.code = static_cast<rehyat_status_code>(status.code());
  std::snprintf(c.message, sizeof c.message, "%s", status.message());
  return c;
}
static_assert(sizeof(rehyat_status::message) >= sizeof(Status) - 1, "a message must fit");

/// What every function that returns a status is made of: a C++ exception, which only the caller's own
/// executor could throw, ends the program and does not reach C.
template <class F>
rehyat_status call(F body) noexcept {
  return to_c(static_cast<const Status&>(body()));
}

/// Hands on the value that a C function returns through a pointer.
template <class T>
Status store(const char* name, T* to, const Result<T>& from) {
  if (to == nullptr) return detail::refuse_null(name);
  REHYAT_RETURN_IF_ERROR(from.status());
  *to = *from;
  return {};
}

}  // namespace rehyat::c_api
