#include "combinations.hpp"

#include <cstdio>

#include "bad_input.hpp"

namespace rehyat::cli {
namespace {

/// Whether an option goes with a schedule.
enum class Rule {
  refused,
  allowed,
  required,
  causal,   ///< allowed unless --direction bidirectional
  row_max,  ///< allowed unless --stabilizer none
};
constexpr const char* rule_texts[] = {"-", "yes", "required", "if causal", "if row_max"};

struct Row {
  const char* option;
  bool (*given)(const AttendOptions&);
  Rule rules[4];  ///< by Schedule
};

constexpr const char* feature_map_names = "--phi | --feature-map | --phi-q and --phi-k";

bool has_feature_map(const AttendOptions& o) { return o.phi || o.feature_map || o.phi_q || o.phi_k; }

constexpr Row table[] = {
    {"--chunk-frames",
     [](const AttendOptions& o) { return o.chunk_frames.has_value(); },
     {Rule::allowed, Rule::refused, Rule::allowed, Rule::refused}},
    {"--overlap-frames",
     [](const AttendOptions& o) { return o.overlap_frames.has_value(); },
     {Rule::allowed, Rule::refused, Rule::refused, Rule::refused}},
    {"--rate",
     [](const AttendOptions& o) { return o.rate.has_value(); },
     {Rule::refused, Rule::refused, Rule::refused, Rule::required}},
    {"--direction",
     [](const AttendOptions& o) { return o.direction.has_value(); },
     {Rule::allowed, Rule::refused, Rule::allowed, Rule::refused}},
    {"--mode recurrent",
     [](const AttendOptions& o) { return o.mode == Mode::recurrent; },
     {Rule::causal, Rule::refused, Rule::causal, Rule::refused}},
    {"--state-in",
     [](const AttendOptions& o) { return o.state_in.has_value(); },
     {Rule::causal, Rule::refused, Rule::causal, Rule::refused}},
    {"--state-out",
     [](const AttendOptions& o) { return o.state_out.has_value(); },
     {Rule::causal, Rule::refused, Rule::causal, Rule::refused}},
    {"--stabilizer",
     [](const AttendOptions& o) { return o.stabilizer.has_value(); },
     {Rule::allowed, Rule::refused, Rule::refused, Rule::allowed}},
    {"--scale",
     [](const AttendOptions& o) { return o.scale.has_value(); },
     {Rule::allowed, Rule::allowed, Rule::refused, Rule::allowed}},
    {"--arithmetic",
     [](const AttendOptions& o) { return o.arithmetic.has_value(); },
     {Rule::allowed, Rule::allowed, Rule::refused, Rule::allowed}},
    {feature_map_names, has_feature_map, {Rule::required, Rule::refused, Rule::required, Rule::required}},
    {"--phi-q-den and --phi-k-den",
     [](const AttendOptions& o) { return o.phi_q_den || o.phi_k_den; },
     {Rule::allowed, Rule::refused, Rule::allowed, Rule::allowed}},
    {"--denominator-epsilon",
     [](const AttendOptions& o) { return o.denominator_epsilon.has_value(); },
     {Rule::row_max, Rule::refused, Rule::allowed, Rule::row_max}},
    {"--denominator-floor",
     [](const AttendOptions& o) { return o.denominator_floor.has_value(); },
     {Rule::row_max, Rule::refused, Rule::allowed, Rule::row_max}},
};

[[noreturn]] void refuse(const std::string& option, const std::string& other) {
  throw BadInput(option + " does not go with " + other);
}

void check_row(const Row& row, const AttendOptions& o) {
  const std::string schedule = std::string("--schedule ") + name_of(o.schedule, schedule_names);
  const Rule rule = row.rules[static_cast<std::size_t>(o.schedule)];
  if (!row.given(o)) {
    if (rule == Rule::required) throw BadInput(schedule + " needs " + row.option);
    return;
  }
  if (rule == Rule::refused) refuse(row.option, schedule);
  if (rule == Rule::causal && o.direction == Direction::bidirectional) {
    refuse(row.option, "--direction bidirectional");
  }
  if (rule == Rule::row_max && o.stabilizer == Stabilizer::none) refuse(row.option, "--stabilizer none");
}

/// One source of features, and whole pairs of files.
void check_features(const AttendOptions& o) {
  const char* const file = o.phi_q ? "--phi-q" : "--phi-k";
  if (o.phi && o.feature_map) refuse("--phi", "--feature-map");
  if (o.phi_q || o.phi_k) {
    if (o.phi) refuse("--phi", file);
    if (o.feature_map) refuse("--feature-map", file);
    if (!o.phi_k) throw BadInput("--phi-q needs --phi-k");
    if (!o.phi_q) throw BadInput("--phi-k needs --phi-q");
  }
  if (o.phi_q_den || o.phi_k_den) {
    if (!o.phi_k_den) throw BadInput("--phi-q-den needs --phi-k-den");
    if (!o.phi_q_den) throw BadInput("--phi-k-den needs --phi-q-den");
    if (!o.phi_q) throw BadInput("--phi-q-den and --phi-k-den need --phi-q and --phi-k");
  }
}

}  // namespace

void check_combination(const AttendOptions& options) {
  for (const Row& row : table) check_row(row, options);
  check_features(options);
  if (options.mode == Mode::oneshot && options.state_in) refuse("--state-in", "--mode oneshot");
  if (options.mode == Mode::oneshot && options.state_out) refuse("--state-out", "--mode oneshot");
}

std::string combination_table() {
  std::string text = "Which options go together:\n";
  const auto add_line = [&](const char* option, const auto& cell) {
    char line[128];
    std::snprintf(line, sizeof line, "  %-43s  %-10s  %-8s  %-9s  %s\n", option, cell(0), cell(1), cell(2),
                  cell(3));
    text += line;
  };
  add_line("", [](int schedule) { return schedule_names[schedule]; });
  for (const Row& row : table) {
    add_line(row.option, [&](int schedule) { return rule_texts[static_cast<int>(row.rules[schedule])]; });
  }
  return text +
         "  Feature maps exclude each other. --phi-q-den and --phi-k-den: only with --phi-q and --phi-k.\n"
         "  --state-in, --state-out: mean --mode recurrent. --state-out: whole chunks; a last run goes "
         "without.\n"
         "  if causal: not with --direction bidirectional. if row_max: not with --stabilizer none.\n"
         "  --frames: required with [N, heads, dim] arrays. softmax does without, and k, v may then be of "
         "another N.\n";
}

}  // namespace rehyat::cli
