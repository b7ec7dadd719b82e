#include "report.hpp"

#include <cinttypes>
#include <cstdio>

namespace rehyat::cli {
namespace {

const char* stabilizer_name(const AttendOptions& o) {
  return name_of(o.stabilizer.value_or(Stabilizer::row_max), stabilizer_names);
}

const char* direction_name(const AttendOptions& o) {
  return name_of(o.direction.value_or(Direction::causal), direction_names);
}

const char* mode_name(const AttendOptions& o) {
  return name_of(o.recurrent() ? Mode::recurrent : Mode::oneshot, mode_names);
}

void print_geometry(const AttendRun& run) {
  const Geometry& g = run.geometry;
  const AttendOptions& o = run.options;
  std::printf("geometry     %" PRId64 " frames of %" PRId64 " tokens", g.frames, g.tokens_per_frame);
  if (g.keys != g.queries()) std::printf(" against %" PRId64 " keys", g.keys);
  std::printf(", %" PRId64 " heads (%" PRId64 " of keys) of %" PRId64 ", values %" PRId64, g.heads,
              g.kv_heads, g.head_dim, g.value_dim);
  if (g.feature_dim > 0) std::printf(", features %" PRId64, g.feature_dim);
  if (o.framed()) {
    const Chunking c = o.chunking(g.tokens_per_frame);
    std::printf("; %s chunks of %" PRId64 " frames", direction_name(o), c.chunk_frames);
    if (o.schedule == Schedule::hybrid) std::printf(" overlapping %" PRId64, c.overlap_frames);
  }
  if (o.state_in) std::printf("; after %" PRId64 " frames", run.frames_before);
  if (o.rate) std::printf("; softmax for every %" PRId64 "-th key", *o.rate);
  std::printf("\n");
}

}  // namespace

Json to_json(const AttendRun& run) {
  const Geometry& g = run.geometry;
  const AttendOptions& o = run.options;
  Json json = {{"schedule", name_of(o.schedule, schedule_names)},
               {"mode", mode_name(o)},
               {"isa", isa_name(run.isa)},
               {"arithmetic", arithmetic_name(o.arithmetic.value_or(Arithmetic::float32))},
               {"storage", name_of(o.storage, storage_names)},
               {"threads", o.threads},
               {"frames", g.frames},
               {"tokens_per_frame", g.tokens_per_frame},
               {"heads", g.heads},
               {"kv_heads", g.kv_heads},
               {"head_dim", g.head_dim},
               {"value_dim", g.value_dim},
               {"feature_dim", g.feature_dim}};
  if (o.schedule == Schedule::softmax) json["keys"] = g.keys;
  if (o.state_in) json["frames_before"] = run.frames_before;
  if (o.framed()) {
    const Chunking c = o.chunking(g.tokens_per_frame);
    json["chunk_frames"] = c.chunk_frames;
    json["overlap_frames"] = c.overlap_frames;
    json["direction"] = direction_name(o);
  }
  if (o.rate) json["rate"] = *o.rate;
  if (o.schedule == Schedule::hybrid || o.schedule == Schedule::uniform)
    json["stabilizer"] = stabilizer_name(o);
  json["repeat"] = o.repeat;
  json["seconds"] = run.seconds;
  json["gflops"] = run.gflops;
  json["state_bytes"] = run.state_bytes;
  json["workspace_bytes"] = run.workspace_bytes;
  json["min_denominator"] = run.denominators.smallest;
  json["min_abs_denominator"] = run.denominators.smallest_magnitude;
  json["nan_denominators"] = run.denominators.nan_count;
  return json;
}

void print_json(const Json& json) {
  std::printf("%s\n", json.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}

void print_text(const AttendRun& run) {
  const AttendOptions& o = run.options;
  std::printf("schedule     %s, %s, %s, %d thread%s\n", name_of(o.schedule, schedule_names), mode_name(o),
              isa_name(run.isa), o.threads, o.threads == 1 ? "" : "s");
  std::printf("arithmetic   %s, inputs of %s\n", arithmetic_name(o.arithmetic.value_or(Arithmetic::float32)),
              name_of(o.storage, storage_names));
  print_geometry(run);
  std::printf("time         %.6g s (the operator alone, median of %d)\n", run.seconds, o.repeat);
  std::printf("rate         %.1f GFLOP/s\n", run.gflops);
  std::printf("memory       %zu bytes of state, %zu bytes of workspace\n", run.state_bytes,
              run.workspace_bytes);
  std::printf("denominator  smallest %g, smallest magnitude %g, NaN %" PRId64 "\n",
              static_cast<double>(run.denominators.smallest),
              static_cast<double>(run.denominators.smallest_magnitude), run.denominators.nan_count);
}

}  // namespace rehyat::cli
