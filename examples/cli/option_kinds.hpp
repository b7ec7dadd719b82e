#pragma once
// Kinds of options that the subcommands share.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace rehyat::cli {

/// An option whose values are the names of an enumeration's first members.
template <class Target, std::size_t n>
void add_choice(CLI::App& command, const char* option, Target& target, const char* const (&names)[n],
                const char* description, const char* default_name) {
  const std::vector<std::string> choices(names, names + n);
  const auto assign = [&target, choices](const std::string& name) {
    using Enum = decltype([](Target t) {
      if constexpr (requires { t.value(); }) {
        return t.value();
      } else {
        return t;
      }
    }(target));
    target = static_cast<Enum>(std::find(choices.begin(), choices.end(), name) - choices.begin());
  };
  command.add_option_function<std::string>(option, assign, description)
      ->check(CLI::IsMember(choices))
      ->default_str(default_name);
}

/// A count of frames or tokens. The upper end is far beyond any clip, and products with it still fit.
inline CLI::Validator at_least(std::int64_t least) {
  return CLI::Range(least, std::int64_t{1} << 40).description("at least " + std::to_string(least));
}

}  // namespace rehyat::cli
