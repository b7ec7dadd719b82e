#pragma once
// What a failed assertion prints of the case that it failed on.

#include <functional>
#include <string>
#include <utility>

namespace rehyat::fuzz {

/// Says what the current case is; asked only when an assertion fails.
inline std::function<std::string()> describe_case;

/// Lets describe_case be `describe` for as long as it lives.
class CaseDescription {
 public:
  explicit CaseDescription(std::function<std::string()> describe) { describe_case = std::move(describe); }
  ~CaseDescription() { describe_case = nullptr; }
  CaseDescription(const CaseDescription&) = delete;
  CaseDescription& operator=(const CaseDescription&) = delete;
};

}  // namespace rehyat::fuzz
