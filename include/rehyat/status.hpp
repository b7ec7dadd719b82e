#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <utility>

#include "rehyat/config.hpp"

namespace rehyat {

/// Why a call was refused.
enum class StatusCode : std::uint8_t {
  ok,
  invalid_argument,     ///< a shape, stride, pointer or parameter is not what the operator accepts
  workspace_too_small,  ///< the caller's buffer is smaller than workspace_size() asked for
  sequence_finished,    ///< a chunk after a short one; reset the state first
  unsupported_isa,      ///< the instruction set is unknown, not built in, or not had by this CPU
  invalid_file,         ///< a file that is read is not what it declares to be
};

/// The result of a call: success, or a code and one line of text that names the argument, its value and what
/// was expected. A value without heap memory; nothing is thrown.
class [[nodiscard]] Status {
 public:
  Status() = default;

  /// An error whose message is formatted like printf; longer than capacity it is cut.
  [[gnu::format(printf, 2, 3)]] static Status error(StatusCode code, const char* format, ...) {
    Status s;
    s.code_ = code;
    std::va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(s.message_, sizeof s.message_, format, arguments);
    va_end(arguments);
    return s;
  }

  bool ok() const { return code_ == StatusCode::ok; }
  StatusCode code() const { return code_; }
  /// One line without a newline; empty when ok.
  const char* message() const { return message_; }

 private:
  StatusCode code_ = StatusCode::ok;
  char message_[247] = {};
};

/// A value, or the Status that says why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Status status) : status_(status) {}

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  /// The value; only where ok().
  T& operator*() { return *value_; }
  const T& operator*() const { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  Status status_;
  std::optional<T> value_;
};

/// Returns the enclosing function's Status if `expression` is an error.
#define REHYAT_RETURN_IF_ERROR(expression)                                  \
  do {                                                                      \
    if (::rehyat::Status rehyat_error = (expression); !rehyat_error.ok()) { \
      return rehyat_error;                                                  \
    }                                                                       \
  } while (false)

}  // namespace rehyat
