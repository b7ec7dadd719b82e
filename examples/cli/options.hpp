#pragma once
// The options of a run of attention, as they were given.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "rehyat/element.hpp"
#include "rehyat/feature_map.hpp"
#include "rehyat/parameters.hpp"
#include "rehyat/schedule.hpp"

namespace rehyat::cli {

enum class Schedule { hybrid, softmax, linear, uniform };
inline constexpr const char* schedule_names[] = {"hybrid", "softmax", "linear", "uniform"};

enum class Mode { oneshot, recurrent };
inline constexpr const char* mode_names[] = {"oneshot", "recurrent"};

inline constexpr const char* direction_names[] = {"causal", "bidirectional"};
inline constexpr const char* stabilizer_names[] = {"row_max", "none"};
inline constexpr const char* arithmetic_names[] = {"float32", "int8", "float16"};
inline constexpr const char* storage_names[] = {"f32", "bf16", "f16"};  ///< of ElementType

template <class Enum, std::size_t n>
const char* name_of(Enum value, const char* const (&names)[n]) {
  return names[static_cast<std::size_t>(value)];
}

/// What is empty was not given: only some combinations of options make sense (combinations.hpp).
struct AttendOptions {
  std::string q, k, v, out;
  std::optional<std::int64_t> frames;
  Schedule schedule = Schedule::hybrid;
  std::optional<Mode> mode;
  std::optional<std::int64_t> chunk_frames, overlap_frames, rate;
  std::optional<Direction> direction;
  std::optional<Stabilizer> stabilizer;
  std::optional<float> scale;
  std::optional<std::string> phi;
  std::optional<Activation> feature_map;
  std::optional<std::string> phi_q, phi_k, phi_q_den, phi_k_den;
  std::optional<float> denominator_epsilon, denominator_floor;
  std::optional<std::string> state_in, state_out;
  std::optional<Arithmetic> arithmetic;
  ElementType storage = ElementType::float32;
  int threads = 1;
  std::string isa = "auto";
  int repeat = 1;

  bool framed() const { return schedule == Schedule::hybrid || schedule == Schedule::linear; }
  /// Its linear sums can be carried from chunk to chunk.
  bool has_recurrence() const {
    return framed() && direction.value_or(Direction::causal) == Direction::causal;
  }
  /// States belong to the recurrence: they ask for it.
  bool recurrent() const {
    return mode.value_or(state_in || state_out ? Mode::recurrent : Mode::oneshot) == Mode::recurrent;
  }
  Chunking chunking(std::int64_t tokens_per_frame) const;
};

/// Declares all of them on a subcommand; q, k, v and out must be given if `required`.
void add_attend_options(CLI::App& command, AttendOptions& options, bool required);

}  // namespace rehyat::cli
