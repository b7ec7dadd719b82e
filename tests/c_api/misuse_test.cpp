// What only C can get wrong: null pointers, numbers off a list, structs that were not initialised.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "rehyat/rehyat.h"

namespace {

void expect_refused(const rehyat_status& status, const std::string& message) {
  EXPECT_EQ(status.code, REHYAT_INVALID_ARGUMENT);
  EXPECT_EQ(status.message, message);
}

std::string null(const char* name) { return std::string(name) + " is null, expected memory"; }

/// A state in memory of its own.
struct State {
  State() {
    config.head_dim = config.value_dim = 4;
    config.phi_q = config.phi_k = rehyat_feature_map_elementwise(REHYAT_ELU1);
    std::size_t bytes = 0;
    EXPECT_EQ(rehyat_recurrent_size(&config, &bytes).code, REHYAT_OK);
    memory.resize(bytes / 8 + 1);
    EXPECT_EQ(rehyat_recurrent_create(&config, memory.data(), bytes, &state).code, REHYAT_OK);
  }

  rehyat_recurrent_config config = rehyat_recurrent_config_defaults();
  std::vector<double> memory;
  rehyat_recurrent_state* state = nullptr;
};

/// The three functions of an operator.
template <class C, class Size, class Run, class Count>
void check_operator(const C& good, Size size, Run run, Count count) {
  const rehyat_executor serial = rehyat_serial_executor();
  std::size_t bytes = 0;
  rehyat_operation_count operations;
  expect_refused(size(nullptr, 1, &bytes), null("parameters"));
  expect_refused(size(&good, 1, nullptr), null("bytes"));
  expect_refused(run(nullptr, nullptr, 0, &serial), null("parameters"));
  expect_refused(run(&good, nullptr, 0, nullptr), null("executor"));
  const rehyat_executor no_pool = rehyat_thread_pool_executor(nullptr);
  expect_refused(run(&good, nullptr, 0, &no_pool), "executor.run is null, expected a function");
  expect_refused(count(nullptr, &operations), null("parameters"));
  expect_refused(count(&good, nullptr), null("count"));

  const auto spoiled = [&](const std::string& message, auto change) {
    C bad = good;
    change(bad);
    expect_refused(size(&bad, 1, &bytes), message);
    expect_refused(run(&bad, nullptr, 0, &serial), message);
    expect_refused(count(&bad, &operations), message);
  };
  const auto size_message = [](const char* name, std::size_t found, std::size_t expected) {
    return std::string(name) + ".struct_size is " + std::to_string(found) + ", expected " +
           std::to_string(expected) + ", as in what its defaults function returns";
  };
  spoiled(size_message("parameters", 0, sizeof(C)), [](C& c) { c = {}; });
  spoiled(size_message("parameters", 8, sizeof(C)), [](C& c) { c.struct_size = 8; });
  spoiled("q.type is -1, expected 0 to 2", [](C& c) { c.q.type = -1; });
  spoiled("out.type is 3, expected 0 to 2", [](C& c) { c.out.type = 3; });
  float value = 0;
  spoiled("statistics.row_sum.type is 1, expected 0 (float32)", [&](C& c) {
    c.statistics.row_sum.data = &value;
    c.statistics.row_sum.type = REHYAT_BFLOAT16;
  });
  if constexpr (requires { good.direction; }) {
    spoiled("direction is 2, expected 0 to 1", [](C& c) { c.direction = 2; });
  }
  if constexpr (requires { good.arithmetic; }) {
    spoiled("arithmetic is 3, expected 0 to 2", [](C& c) { c.arithmetic = 3; });
  }
  if constexpr (requires { good.stabilizer; }) {
    spoiled("stabilizer is 256, expected 0 to 1", [](C& c) { c.stabilizer = 256; });
  }
  if constexpr (requires { good.phi_q; }) {
    const std::size_t map_size = sizeof(rehyat_feature_map);
    spoiled(size_message("phi_q", 0, map_size), [](C& c) { c.phi_q = {}; });
    spoiled(size_message("phi_k", 1, map_size), [](C& c) { c.phi_k.struct_size = 1; });
    spoiled("phi_q.kind is 4, expected 0 to 3", [](C& c) { c.phi_q.kind = 4; });
    spoiled("phi_k.activation is 6, expected 0 to 5", [](C& c) { c.phi_k.activation = 6; });
    spoiled("phi_k.output_activation is -1, expected 0 to 5",
            [](C& c) { c.phi_k = rehyat_feature_map_elementwise(-1); });
    spoiled("phi_q.layout is 2, expected 0 to 1", [](C& c) { c.phi_q.layout = 2; });
    spoiled("given.k_denominator.type is 9, expected 0 to 2", [](C& c) { c.given.k_denominator.type = 9; });
  }
}

TEST(CMisuse, Operators) {
  check_operator(rehyat_softmax_defaults(), rehyat_softmax_workspace_size, rehyat_softmax_attention,
                 rehyat_softmax_operation_count);
  check_operator(rehyat_hybrid_defaults(), rehyat_hybrid_workspace_size, rehyat_hybrid_attention,
                 rehyat_hybrid_operation_count);
  check_operator(rehyat_linear_defaults(), rehyat_linear_workspace_size, rehyat_linear_attention,
                 rehyat_linear_operation_count);
  check_operator(rehyat_uniform_defaults(), rehyat_uniform_workspace_size, rehyat_uniform_attention,
                 rehyat_uniform_operation_count);
}

TEST(CMisuse, Configurations) {
  State s;
  std::size_t bytes = 0;
  expect_refused(rehyat_recurrent_size(nullptr, &bytes), null("config"));
  expect_refused(rehyat_recurrent_size(&s.config, nullptr), null("bytes"));
  expect_refused(rehyat_recurrent_workspace_size(nullptr, 1, &bytes), null("config"));
  expect_refused(rehyat_recurrent_workspace_size(&s.config, 1, nullptr), null("bytes"));
  expect_refused(rehyat_recurrent_create(nullptr, s.memory.data(), 1, &s.state), null("config"));
  expect_refused(rehyat_recurrent_create(&s.config, s.memory.data(), 1, nullptr), null("state"));
  s.config.tail_type = 3;
  expect_refused(rehyat_recurrent_size(&s.config, &bytes), "tail_type is 3, expected 0 to 2");
  s.config = rehyat_recurrent_config_defaults();
  s.config.schedule = 2;
  expect_refused(rehyat_recurrent_size(&s.config, &bytes), "schedule is 2, expected 0 to 1");
  s.config.struct_size = 0;
  expect_refused(rehyat_recurrent_size(&s.config, &bytes), "config.struct_size is 0, expected " +
                                                               std::to_string(sizeof s.config) +
                                                               ", as in what its defaults function returns");
}

TEST(CMisuse, States) {
  State s;
  const rehyat_executor serial = rehyat_serial_executor();
  rehyat_recurrent_chunk chunk = rehyat_recurrent_chunk_defaults();
  const auto check_all = [&](rehyat_recurrent_state* state, const rehyat_recurrent_chunk* c,
                             const rehyat_executor* executor, const std::string& message) {
    expect_refused(rehyat_recurrent_peek(state, c, nullptr, 0, executor), message);
    expect_refused(rehyat_recurrent_commit(state, c, nullptr, 0, executor), message);
    expect_refused(rehyat_recurrent_step(state, c, nullptr, 0, executor), message);
  };
  check_all(nullptr, &chunk, &serial, null("state"));
  check_all(s.state, nullptr, &serial, null("chunk"));
  check_all(s.state, &chunk, nullptr, null("executor"));
  chunk.struct_size = 0;
  check_all(s.state, &chunk, &serial,
            "chunk.struct_size is 0, expected " + std::to_string(sizeof chunk) +
                ", as in what its defaults function returns");

  std::size_t bytes = 0;
  std::int64_t frames = 0;
  std::int32_t finished = 0;
  char file[1] = {};
  expect_refused(rehyat_recurrent_reset(nullptr), null("state"));
  expect_refused(rehyat_recurrent_reset_entry(nullptr, 0), null("state"));
  expect_refused(rehyat_recurrent_copy(nullptr, s.state), null("state"));
  expect_refused(rehyat_recurrent_copy(s.state, nullptr), null("other"));
  expect_refused(rehyat_recurrent_copy_entry(nullptr, 0, s.state, 0), null("state"));
  expect_refused(rehyat_recurrent_copy_entry(s.state, 0, nullptr, 0), null("other"));
  expect_refused(rehyat_recurrent_frames_seen(nullptr, 0, &frames), null("state"));
  expect_refused(rehyat_recurrent_frames_seen(s.state, 0, nullptr), null("frames"));
  expect_refused(rehyat_recurrent_finished(nullptr, 0, &finished), null("state"));
  expect_refused(rehyat_recurrent_finished(s.state, 0, nullptr), null("finished"));
  expect_refused(rehyat_recurrent_save_size(nullptr, &bytes), null("state"));
  expect_refused(rehyat_recurrent_save_size(s.state, nullptr), null("bytes"));
  expect_refused(rehyat_recurrent_save_entry_size(nullptr, &bytes), null("state"));
  expect_refused(rehyat_recurrent_save_entry_size(s.state, nullptr), null("bytes"));
  expect_refused(rehyat_recurrent_save(nullptr, file, 1), null("state"));
  expect_refused(rehyat_recurrent_save_entry(nullptr, 0, file, 1), null("state"));
  expect_refused(rehyat_recurrent_restore(nullptr, file, 1), null("state"));
  expect_refused(rehyat_recurrent_restore(s.state, nullptr, 1), null("file"));
  expect_refused(rehyat_recurrent_restore_entry(nullptr, 0, file, 1, 0), null("state"));
  expect_refused(rehyat_recurrent_restore_entry(s.state, 0, nullptr, 1, 0), null("file"));
}

TEST(CMisuse, WeightsAndPools) {
  rehyat_feature_map map = rehyat_feature_map_defaults(), packed = map;
  std::size_t bytes = 0;
  expect_refused(rehyat_packed_weights_size(nullptr, 4, &bytes), null("map"));
  expect_refused(rehyat_packed_weights_size(&map, 4, nullptr), null("bytes"));
  expect_refused(rehyat_pack_weights(nullptr, 4, nullptr, 0, &packed), null("map"));
  expect_refused(rehyat_pack_weights(&map, 4, nullptr, 0, nullptr), null("packed"));
  map.layout = -7;
  expect_refused(rehyat_packed_weights_size(&map, 4, &bytes), "map.layout is -7, expected 0 to 1");
  rehyat_thread_pool_destroy(nullptr);
  rehyat_thread_pool* pool = rehyat_thread_pool_create(-3);
  EXPECT_EQ(rehyat_thread_pool_executor(pool).slots, 1);
  rehyat_thread_pool_destroy(pool);
}

}  // namespace
