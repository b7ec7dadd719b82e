#pragma once
// Memory and phases of the forward and the backward pass.

#include <new>

#include "rehyat/executor.hpp"
#include "rehyat/train/detail/check.hpp"
#include "rehyat/train/detail/head_group.hpp"
#include "rehyat/train/detail/weights.hpp"

namespace rehyat::train::detail {

using rehyat::detail::check_slots;
using rehyat::detail::check_workspace;

/// The gradients of one side's weights by batch entry, so that tasks do not meet, and their sum.
template <class Real>
struct WeightGradients {
  const Phi<Real>* phi = nullptr;
  std::int64_t head_dim = 0, batch = 0;
  std::int64_t size = 0;  ///< of an entry, cache lines of it; 0 if they are not wanted
  Real* memory = nullptr;

  WeightGradients(const Phi<Real>& side, std::int64_t dim, std::int64_t entries, bool wanted, Arena& arena)
      : phi(&side), head_dim(dim), batch(entries) {
    if (!wanted) return;
    PhiGradient<Real> measured;
    size = round_up(cut<Real>(side.map, dim, biases(side), nullptr, measured), Arena::alignment);
    memory = take<Real>(arena, batch, size);
  }

  PhiGradient<Real> of_entry(std::int64_t b) const {
    PhiGradient<Real> gradient;
    if (size > 0) cut(phi->map, head_dim, biases(*phi), memory + b * size, gradient);
    return gradient;
  }

  /// The sum over batch entries of one head's part, in their order.
  void reduce(std::int64_t head, const PhiGradient<Real>& to) const {
    std::int64_t in_dim = head_dim;
    for (int i = 0; size > 0 && i < phi->map.num_layers; ++i) {
      const std::int64_t outputs = phi->map.layers[i].out_dim;
      sum_entries([&](const PhiGradient<Real>& d) { return d.weight[i]; }, to.weight[i], head,
                  outputs * in_dim);
      sum_entries([&](const PhiGradient<Real>& d) { return d.bias[i]; }, to.bias[i], head, outputs);
      in_dim = outputs;
    }
  }

 private:
  void sum_entries(auto part, Real* to, std::int64_t head, std::int64_t count) const {
    if (to == nullptr) return;
    RowVector<Real> sum(to + head * count, count);
    sum.setZero();
    for (std::int64_t b = 0; b < batch; ++b) sum += RowVector<Real>(part(of_entry(b)) + head * count, count);
  }
};

/// The memory of a call, at `arena`'s addresses.
template <class Real>
struct Memory {
  WeightGradients<Real> phi_q, phi_k;
  Scratch<Real>* slots = nullptr;

  Memory(const HybridAttention<Real>& p, const HybridGradients<Real>* d, int num_slots, Arena& arena)
      : phi_q(p.phi_q, p.q.dim, p.q.batch, d != nullptr && d->phi_q.wanted(), arena),
        phi_k(p.phi_k, p.q.dim, p.q.batch, d != nullptr && d->phi_k.wanted(), arena) {
    const std::int64_t chunks = chunk_count(p.q.tokens / p.chunking.tokens_per_frame, p.chunking);
    constexpr auto bytes = static_cast<std::int64_t>(sizeof(Scratch<Real>));
    float* objects = arena.floats(num_slots, ceil_div(bytes, std::int64_t{sizeof(float)}));
    slots = reinterpret_cast<Scratch<Real>*>(objects);
    if (objects == nullptr) {  // only measured: slots are alike
      for (int slot = 0; slot < num_slots && !arena.overflows(); ++slot) Scratch<Real>(p, d, chunks, arena);
      return;
    }
    for (int slot = 0; slot < num_slots; ++slot) new (slots + slot) Scratch<Real>(p, d, chunks, arena);
  }
};

/// Chunks longer than the clip mean the same as chunks of its length, and their products cannot overflow.
template <class Real>
HybridAttention<Real> clamped(HybridAttention<Real> p) {
  const std::int64_t frames = std::max<std::int64_t>(p.q.tokens / p.chunking.tokens_per_frame, 1);
  p.chunking.chunk_frames = std::min(p.chunking.chunk_frames, frames);
  p.chunking.overlap_frames = std::min(p.chunking.overlap_frames, frames);
  return p;
}

template <class Real>
Result<std::size_t> workspace_size(const HybridAttention<Real>& p, const HybridGradients<Real>* d,
                                   int slots) {
  REHYAT_RETURN_IF_ERROR(check(p));
  if (d != nullptr) REHYAT_RETURN_IF_ERROR(check(p, *d));
  REHYAT_RETURN_IF_ERROR(check_slots(slots));
  Arena measure;
  const HybridAttention<Real> problem = clamped(p);
  Memory<Real>(problem, d, slots, measure);
  if (measure.overflows()) {
    return rehyat::detail::refuse("q.tokens", p.q.tokens, "a workspace whose size does not overflow");
  }
  return measure.size();
}

template <class Real>
Status forward(const HybridAttention<Real>& parameters, const TensorView<Real>& out, Workspace workspace,
               ExecutorRef executor) {
  const int slots = executor.slots();
  const Result<std::size_t> needed = workspace_size<Real>(parameters, nullptr, slots);
  if (!needed.ok()) return needed.status();
  const HybridAttention<Real> p = clamped(parameters);
  REHYAT_RETURN_IF_ERROR(
      rehyat::detail::check_output("out", out, {p.q.batch, p.q.tokens, p.q.heads, p.v.dim}));
  REHYAT_RETURN_IF_ERROR(check_workspace(workspace, *needed, slots));
  Arena arena(workspace);
  const Memory<Real> memory(p, nullptr, slots, arena);
  const auto task = [&](std::int64_t index, int slot) {
    HeadGroup<Real>(p, index / p.k.heads, index % p.k.heads, memory.slots[slot]).forward(out);
  };
  executor.run(p.q.batch * p.k.heads, task);
  return {};
}

template <class Real>
Status backward(const HybridAttention<Real>& parameters, const TensorView<const Real>& d_out,
                const HybridGradients<Real>& gradients, Workspace workspace, ExecutorRef executor) {
  const int slots = executor.slots();
  const Result<std::size_t> needed = workspace_size(parameters, &gradients, slots);
  if (!needed.ok()) return needed.status();
  const HybridAttention<Real> p = clamped(parameters);
  REHYAT_RETURN_IF_ERROR(
      rehyat::detail::check_input("d_out", d_out, {p.q.batch, p.q.tokens, p.q.heads, p.v.dim}));
  REHYAT_RETURN_IF_ERROR(check_workspace(workspace, *needed, slots));
  Arena arena(workspace);
  const Memory<Real> memory(p, &gradients, slots, arena);
  for (const WeightGradients<Real>* side : {&memory.phi_q, &memory.phi_k}) {
    std::fill_n(side->memory, side->batch * side->size, Real(0));
  }
  const auto task = [&](std::int64_t index, int slot) {
    const std::int64_t b = index / p.k.heads;
    HybridGradients<Real> d = gradients;
    d.phi_q = memory.phi_q.of_entry(b);
    d.phi_k = memory.phi_k.of_entry(b);
    HeadGroup<Real>(p, b, index % p.k.heads, memory.slots[slot]).backward(d_out, d);
  };
  executor.run(p.q.batch * p.k.heads, task);
  const auto sum = [&](std::int64_t head, int) {
    if (head < p.q.heads) return memory.phi_q.reduce(head, gradients.phi_q);
    memory.phi_k.reduce(head - p.q.heads, gradients.phi_k);
  };
  executor.run(p.q.heads + p.k.heads, sum);
  return {};
}

}  // namespace rehyat::train::detail
