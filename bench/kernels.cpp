// bench_kernels: the pieces of the operators through the kernel table, one task on one thread.
//
// Rows: <quick or full>/<piece>/<head dim>/<isa>; head dim 128 with phi of width 256, 64 with width 64. A
// piece in another arithmetic than float32 has its name behind its own, and the share is of float32's peak.
//   attend_softmax  8 query blocks over 2,400 keys: tail and chunk of a 20 x 30 video with Tc 3, To 1
//   attend_read     the same queries, phi_q and the read of the sums, no softmax keys
//   attend_joint    both
//   absorb          768 keys: phi_k and the update of the sums
//   absorb_elu1     768 keys: the update alone, behind the cheapest phi
//   fold            the parts of four absorb tasks added to a state; counts no multiply-adds, see gigabytes
//   (a second)
// Keys and values are read with the stride of 12 interleaved heads: as token-major views have it.
//   bench_kernels --benchmark_filter=absorb/128/avx512

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "inputs.hpp"
#include "program.hpp"

namespace rehyat::bench {
namespace {

constexpr std::int64_t query_blocks = 8, keys = 2400, absorbed_keys = 768, interleaved_heads = 12, parts = 4;

/// Floats where the operators have theirs: at the start of a cache line.
class AlignedFloats {
 public:
  AlignedFloats(std::int64_t count, float value) {
    detail::Arena measure;
    measure.floats(count);
    bytes_.resize(measure.size());
    data_ = detail::Arena({bytes_.data(), bytes_.size()}).floats(count);
    std::fill_n(data_, count, value);
  }
  float* data() { return data_; }

 private:
  std::vector<std::byte> bytes_;
  float* data_ = nullptr;
};

/// One task's data.
struct Task {
  Task(const Kernels& k, std::int64_t dim, std::int64_t features)
      : kernels(k),
        head_dim(dim),
        feature_dim(features),
        queries(query_blocks * k.query_block),
        stride(interleaved_heads * dim),
        q(normals(queries * stride, 1)),
        k_and_v{normals(keys * stride, 2), normals(keys * stride, 3)},
        out(q.size()),
        map(1, dim, features, features, 4) {}

  kernel::Dims dims(const FeatureMap& phi) const { return detail::dims_of(head_dim, head_dim, &phi, &phi); }
  AlignedFloats scratch(const FeatureMap& phi) const {
    return {kernels.scratch_size(dims(phi), query_blocks), 0.0f};
  }
  /// Sums that every feature map here can be read against: 1 everywhere.
  AlignedFloats sums(const FeatureMap& phi) const { return {kernel::sums_size(dims(phi)), 1.0f}; }

  /// Keys (0) or values (1).
  kernel::HeadRows rows(int side) const { return {k_and_v[side].data(), ElementType::float32, stride}; }

  const Kernels& kernels;
  std::int64_t head_dim, feature_dim, queries, stride;
  std::vector<float> q, k_and_v[2], out;
  PolynomialMap map;
};

void run_attend(benchmark::State& state, const Options& options, Task& t, bool softmax, bool read) {
  const FeatureMap& phi = t.map.map();
  AlignedFloats scratch = t.scratch(phi), sums = t.sums(phi);
  DenominatorReport denominators;
  const kernel::AttendTask task{.dims = t.dims(phi),
                                .q = {t.q.data(), ElementType::float32, t.stride, t.head_dim},
                                .out = {t.out.data(), ElementType::float32, t.stride, t.head_dim},
                                .query_count = t.queries,
                                .first_block = 0,
                                .end_block = query_blocks,
                                .softmax = {{t.rows(0), t.rows(1), keys}},
                                .num_softmax = softmax ? 1 : 0,
                                .sums = read ? sums.data() : nullptr,
                                .phi_q = &phi,
                                .score_scale = detail::score_scale({}, t.head_dim),
                                .report = &denominators,
                                .scratch = scratch.data()};
  const double dim = static_cast<double>(t.head_dim), features = static_cast<double>(t.feature_dim);
  const double per_query = (softmax ? 4 * dim * static_cast<double>(keys) : 0) +
                           (read ? 2 * (detail::feature_map_work(phi, t.head_dim) + features * dim) : 0);
  ThreadPool pool(1);
  measure_row(state, options, t.kernels.isa, pool, per_query * static_cast<double>(t.queries), [&] {
    t.kernels.attend(task);
    return Status();
  });
}

void run_absorb(benchmark::State& state, const Options& options, Task& t, const FeatureMap& phi) {
  AlignedFloats scratch = t.scratch(phi), sums = t.sums(phi);
  const kernel::AbsorbTask task{.dims = t.dims(phi),
                                .k = t.rows(0),
                                .v = t.rows(1),
                                .count = absorbed_keys,
                                .phi_k = &phi,
                                .sums = sums.data(),
                                .scratch = scratch.data()};
  const double features = static_cast<double>(phi.feature_dim(t.head_dim)),
               dim = static_cast<double>(t.head_dim);
  const double per_key = 2 * (detail::feature_map_work(phi, t.head_dim) + features * dim);
  ThreadPool pool(1);
  measure_row(state, options, t.kernels.isa, pool, per_key * static_cast<double>(absorbed_keys), [&] {
    t.kernels.absorb(task);
    return Status();
  });
}

void run_fold(benchmark::State& state, const Options& options, Task& t) {
  const std::int64_t size = kernel::sums_size(t.dims(t.map.map()));
  AlignedFloats hi(size, 1.0f), lo(size, 0.0f);
  const std::vector<float> added = normals(parts * size, 5);
  const kernel::FoldTask task{.hi_in = hi.data(),
                              .lo_in = lo.data(),
                              .hi = hi.data(),
                              .lo = lo.data(),
                              .parts = added.data(),
                              .part_stride = size,
                              .num_parts = parts,
                              .begin = 0,
                              .end = size};
  ThreadPool pool(1);
  const std::function<void()> contestant = [&] { t.kernels.fold(task); };
  const Measurement m = measure(options, t.kernels.isa, pool, {&contestant, 1});
  state.SetIterationTime(m.median_seconds(0));
  state.counters["gigabytes"] =
      static_cast<double>((4 + parts) * size) * sizeof(float) / m.median_seconds(0) * 1e-9;
}

struct Piece {
  const char* name;
  void (*run)(benchmark::State&, const Options&, Task&);
  bool has_modes = true;  ///< besides float32
};

constexpr Piece pieces[] = {
    {"attend_softmax",
     [](auto& state, auto& options, Task& t) { run_attend(state, options, t, true, false); }},
    {"attend_read", [](auto& state, auto& options, Task& t) { run_attend(state, options, t, false, true); }},
    {"attend_joint", [](auto& state, auto& options, Task& t) { run_attend(state, options, t, true, true); }},
    {"absorb", [](auto& state, auto& options, Task& t) { run_absorb(state, options, t, t.map.map()); }},
    {"absorb_elu1",
     [](auto& state, auto& options, Task& t) { run_absorb(state, options, t, FeatureMap::elu1()); }},
    {"fold", [](auto& state, auto& options, Task& t) { run_fold(state, options, t); }, false},
};

void register_piece(const Options& options, const Piece& piece, const Kernels& kernels,
                    const std::string& suffix) {
  for (const auto& [dim, features] : {std::pair{128, 256}, std::pair{64, 64}}) {
    const bool quick = kernels.isa != Isa::scalar;
    add_row(std::string(quick ? "quick/" : "full/") + piece.name + suffix + "/" + std::to_string(dim) + "/" +
                isa_name(kernels.isa),
            [&, d = dim, f = features, run = piece.run](benchmark::State& state) {
              Task task(kernels, d, f);
              run(state, options, task);
            });
  }
}

void register_rows(const Options& options) {
  for (const Kernels* kernels : runnable_kernels()) {
    for (const Piece& piece : pieces) {
      register_piece(options, piece, *kernels, "");
      if (!piece.has_modes) continue;
      for (const Arithmetic mode : {Arithmetic::float16, Arithmetic::int8}) {
        const Kernels* const narrow = kernels_in(*kernels, mode);
        if (narrow != nullptr)
          register_piece(options, piece, *narrow, std::string("_") + arithmetic_name(mode));
      }
    }
  }
}

}  // namespace
}  // namespace rehyat::bench

int main(int argc, char** argv) {
  return rehyat::bench::run_program(
      argc, argv,
      {"bench_kernels: attend, absorb and fold by themselves, as a share of the FMA peak.",
       rehyat::bench::register_rows});
}
