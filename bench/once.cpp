// bench_once: one operator, once, on one thread, for tools that watch a program from outside (see
// cache_misses.py). Prints nothing but errors.
//
//   bench_once <operator> <frames>x<height>x<width> <heads>x<head dim>
//
// Operators: exact, hybrid (causal), recurrent (hybrid chunk by chunk), none (makes the inputs and stops).
// Tc 3, To 1, hidden and feature dim 256. The instruction set is AVX2.

#include <cstdio>
#include <cstring>
#include <initializer_list>

#include "contestants.hpp"

namespace rehyat::bench {
namespace {

Status run_exact(Inputs& in, ThreadPool& pool) {
  return OneShot(parameters_for<SoftmaxAttention>(in, Layout::head_major), softmax_attention<ThreadPool>,
                 pool, default_kernels())
      .run();
}

HybridAttention causal_hybrid(Inputs& in) {
  auto p = parameters_for<HybridAttention>(in, Layout::head_major);
  p.direction = Direction::causal;
  return p;
}

Status run_hybrid(Inputs& in, ThreadPool& pool) {
  return OneShot(causal_hybrid(in), hybrid_attention<ThreadPool>, pool, default_kernels()).run();
}

Status run_recurrent(Inputs& in, ThreadPool& pool) {
  return Recurrence(causal_hybrid(in), pool, default_kernels()).run_clip();
}

struct Operator {
  const char* name;
  Status (*run)(Inputs& in, ThreadPool& pool);
};

constexpr Operator operators[] = {
    {"exact", run_exact},
    {"hybrid", run_hybrid},
    {"recurrent", run_recurrent},
    {"none", [](Inputs&, ThreadPool&) { return Status{}; }},
};

/// Reads <a>x<b>... into numbers above 0; false if the text is anything else.
bool parse_sizes(const char* text, std::initializer_list<std::int64_t*> sizes) {
  for (std::int64_t* size : sizes) {
    int used = 0;
    long long value = 0;
    if (size != *sizes.begin() && *text++ != 'x') return false;
    if (std::sscanf(text, "%lld%n", &value, &used) != 1 || value < 1) return false;
    *size = value;
    text += used;
  }
  return *text == '\0';
}

int run(int argc, char** argv) {
  Shape shape{"once", 0, 0, 0, 0, 0, 0, 3, 1, 256, 256};
  if (argc != 4 || !parse_sizes(argv[2], {&shape.frames, &shape.height, &shape.width}) ||
      !parse_sizes(argv[3], {&shape.heads, &shape.head_dim})) {
    std::fprintf(stderr,
                 "bench_once: expected exact|hybrid|recurrent|none <frames>x<height>x<width> "
                 "<heads>x<head dim>\n");
    return 2;
  }
  shape.kv_heads = shape.heads;
  for (const Operator& op : operators) {
    if (std::strcmp(op.name, argv[1]) != 0) continue;
    Inputs in(shape);
    ThreadPool pool(1);
    const Status status = op.run(in, pool);
    if (!status.ok()) std::fprintf(stderr, "bench_once: %s\n", status.message());
    return status.ok() ? 0 : 1;
  }
  std::fprintf(stderr, "bench_once: operator is %s, expected exact, hybrid, recurrent or none\n", argv[1]);
  return 2;
}

}  // namespace
}  // namespace rehyat::bench

int main(int argc, char** argv) { return rehyat::bench::run(argc, argv); }
