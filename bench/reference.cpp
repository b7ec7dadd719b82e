// bench_reference: hybrid attention beside the two quadratic baselines, run in turn on the same inputs: plain
// attention on Eigen, which stores N x N, and our exact softmax attention. Outputs of the two are compared
// before anything is timed.
//
// Rows: <quick or full>/reference/<shape>/<isa>/threads:<n>. A row's time, gflops and share are hybrid
// attention's (where a clip is one chunk, the same as exact attention); eigen_ms, exact_ms and their gflops
// are the baselines'; over_eigen and over_exact are their times divided by hybrid's, and counts is the
// quotient of the operation counts, which over_exact can at best be. Eigen takes a head a thread. full/ has
// the clips whose N x N takes up to 2 GB a thread:
//   bench_reference --benchmark_out=reference.json
//   bench_reference --benchmark_filter=full/reference/phone_31x20x30_2x128/avx512/threads:1

#include <cmath>
#include <cstddef>
#include <string>

#include "contestants.hpp"
#include "eigen_quadratic.hpp"
#include "program.hpp"

namespace rehyat::bench {
namespace {

constexpr double most_quick_bytes = 128e6;  ///< of N x N, a thread
constexpr double most_bytes = 2e9;
constexpr double largest_error = 1e-5;  ///< relative L2 of two float32 computations of the same

/// All heads of head-major inputs on Eigen, one head a task.
class EigenAttention {
 public:
  EigenAttention(const SoftmaxAttention& p, ThreadPool& pool, Isa isa)
      : p_(p),
        pool_(&pool),
        head_(eigen_quadratic(isa)),
        out_(static_cast<std::size_t>(p.q.tokens * p.q.heads * p.v.dim)) {
    weights_.resize(static_cast<std::size_t>(pool.slots()));
    for (std::vector<float>& w : weights_) w.resize(static_cast<std::size_t>(p.q.tokens * p.q.tokens));
  }

  void run() {
    const std::int64_t heads_per_kv = p_.q.heads / p_.k.heads;
    const auto task = [&](std::int64_t h, int slot) {
      head_({.q = static_cast<const float*>(p_.q.row(0, 0, h)),
             .k = static_cast<const float*>(p_.k.row(0, 0, h / heads_per_kv)),
             .v = static_cast<const float*>(p_.v.row(0, 0, h / heads_per_kv)),
             .out = out_.data() + h * p_.q.tokens * p_.v.dim,
             .tokens = p_.q.tokens,
             .head_dim = p_.q.dim,
             .value_dim = p_.v.dim,
             .scale = 1 / std::sqrt(static_cast<float>(p_.q.dim)),
             .weights = weights_[static_cast<std::size_t>(slot)].data()});
    };
    pool_->run(p_.q.heads, task);
  }

  /// Relative L2 distance of p.out, also head-major, from this output.
  double distance() const {
    const auto* out = static_cast<const float*>(p_.out.data);
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < out_.size(); ++i) {
      const double d = static_cast<double>(out[i]) - static_cast<double>(out_[i]);
      difference += d * d;
      size += static_cast<double>(out_[i]) * static_cast<double>(out_[i]);
    }
    return std::sqrt(difference / size);
  }

 private:
  SoftmaxAttention p_;
  ThreadPool* pool_;
  void (*head_)(const QuadraticHead&);
  std::vector<float> out_;
  std::vector<std::vector<float>> weights_;
};

void run_row(benchmark::State& state, const Options& options, const Shape& shape, const Kernels& kernels,
             int threads) {
  ThreadPool pool(threads);
  Inputs& in = inputs_of(shape);
  const auto exact_parameters = parameters_for<SoftmaxAttention>(in, Layout::head_major);
  OneShot exact(exact_parameters, softmax_attention<ThreadPool>, pool, kernels);
  OneShot hybrid(parameters_for<HybridAttention>(in, Layout::head_major), hybrid_attention<ThreadPool>, pool,
                 kernels);
  EigenAttention eigen(exact_parameters, pool, kernels.isa);

  if (Status s = hybrid.run(); !s.ok()) return state.SkipWithError(s.message());
  if (Status s = exact.run(); !s.ok()) return state.SkipWithError(s.message());
  eigen.run();
  const double error = eigen.distance();
  if (!(error <= largest_error)) {
    return state.SkipWithError(
        ("exact attention is off by " + std::to_string(error) + " from Eigen's").c_str());
  }

  const std::function<void()> contestants[] = {[&] { eigen.run(); }, [&] { (void)exact.run(); },
                                               [&] { (void)hybrid.run(); }};
  const Measurement m = measure(options, kernels.isa, pool, contestants);
  report(state, m, 2, hybrid.operations());
  state.counters["eigen_ms"] = m.median_seconds(0) * 1e3;
  state.counters["eigen_gflops"] = exact.operations() / m.median_seconds(0) * 1e-9;
  state.counters["exact_ms"] = m.median_seconds(1) * 1e3;
  state.counters["exact_gflops"] = exact.operations() / m.median_seconds(1) * 1e-9;
  state.counters["exact_error"] = error;
  state.counters["over_eigen"] = m.median_seconds(0) / m.median_seconds(2);
  state.counters["over_exact"] = m.median_seconds(1) / m.median_seconds(2);
  state.counters["counts"] = exact.operations() / hybrid.operations();
}

bool is_quick(const Shape& shape, const Kernels& kernels, double bytes) {
  if (kernels.isa == Isa::scalar) return bytes < 10e6;
  return bytes <= most_quick_bytes && (&kernels == runnable_kernels().front() || bytes < 10e6) &&
         shape.several_chunks();
}

void register_rows(const Options& options) {
  for (const Shape& shape : shapes) {
    const double bytes =
        static_cast<double>(shape.tokens()) * static_cast<double>(shape.tokens()) * sizeof(float);
    if (bytes > most_bytes) continue;
    for (const Kernels* kernels : runnable_kernels()) {
      for (const int threads : options.threads) {
        add_row(std::string(is_quick(shape, *kernels, bytes) ? "quick" : "full") + "/reference/" +
                    shape.name + "/" + isa_name(kernels->isa) + "/threads:" + std::to_string(threads),
                [&shape, kernels, options, threads](benchmark::State& state) {
                  run_row(state, options, shape, *kernels, threads);
                });
      }
    }
  }
}

}  // namespace
}  // namespace rehyat::bench

int main(int argc, char** argv) {
  return rehyat::bench::run_program(
      argc, argv,
      {"bench_reference: hybrid attention beside plain quadratic attention on Eigen and our exact attention.",
       rehyat::bench::register_rows});
}
