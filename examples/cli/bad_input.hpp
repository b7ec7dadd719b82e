#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include "rehyat/status.hpp"

namespace rehyat::cli {

/// Input that the program refuses: one line for standard error, exit status 2.
class BadInput : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The library's refusals become the program's. `subject` goes in front of the message.
inline void require(const Status& status, const std::string& subject = {}) {
  if (!status.ok()) throw BadInput(subject + status.message());
}

template <class T>
T require(Result<T> result, const std::string& subject = {}) {
  require(result.status(), subject);
  return std::move(*result);
}

}  // namespace rehyat::cli
