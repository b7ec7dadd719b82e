#pragma once

#include <nlohmann/json.hpp>

#include "attend.hpp"

namespace rehyat::cli {

using Json = nlohmann::ordered_json;

/// A run as one flat object. Numbers that JSON does not have (infinite, NaN) become null.
Json to_json(const AttendRun& run);

/// Prints one object, a key a line, on standard output.
void print_json(const Json& json);

/// Prints a run for people: geometry, time, rate, memory, denominators.
void print_text(const AttendRun& run);

}  // namespace rehyat::cli
