// torch.classes.rehyat.RecurrentAttention: the recurrent form, a TorchScript class that holds the state.

#include <torch/custom_class.h>

#include <span>
#include <tuple>

#include "phi.hpp"
#include "rehyat/io/state_file.hpp"
#include "rehyat/recurrent.hpp"
#include "tensors.hpp"

namespace rehyat_torch {
namespace {

using at::Tensor;

/// All that a state is made from, in the types of TorchScript.
struct Configuration {
  std::vector<int64_t> sizes;  ///< batch, heads, kv_heads, head_dim, value_dim, tokens_per_frame,
                               ///< chunk_frames, overlap_frames, degree
  c10::optional<double> scale;
  std::vector<double> numbers;     ///< denominator_epsilon, denominator_floor
  std::vector<std::string> names;  ///< stabilizer, feature_map, activation, output_activation
  std::vector<Tensor> phi_q, phi_k;
};

/// What pickling keeps: a Configuration, and the bytes of a state file.
using Numbers = std::tuple<std::vector<int64_t>, c10::optional<double>, std::vector<double>>;
using Model = std::tuple<std::vector<std::string>, std::vector<Tensor>, std::vector<Tensor>>;
using Pickled = std::tuple<Numbers, Model, Tensor>;

class RecurrentAttention : public torch::CustomClassHolder {
 public:
  explicit RecurrentAttention(Configuration c)
      : configuration_(std::move(c)),
        phi_q_("phi_q", configuration_.phi_q, settings(), size(1), size(3)),
        phi_k_("phi_k", configuration_.phi_k, settings(), size(2), size(3)),
        config_(make_config()),
        memory_(at::empty({static_cast<int64_t>(value_of(rehyat::RecurrentState::size_bytes(config_)))},
                          at::kByte)),
        state_(value_of(rehyat::RecurrentState::create(config_, memory_.data_ptr(),
                                                       static_cast<std::size_t>(memory_.numel())))) {}

  /// The output of a chunk [batch, heads, tokens, dim]; the state stays as it is.
  Tensor peek(const Tensor& q, const Tensor& k, const Tensor& v) const {
    auto [chunk, out] = chunk_of(q, k, v);
    TorchExecutor executor;
    check(state_.peek(chunk, workspace(executor).get(), executor));
    return out;
  }

  /// Takes a chunk's keys and values into the state.
  void commit(const Tensor& k, const Tensor& v) {
    TorchExecutor executor;
    check(state_.commit(keys_of(k, v), workspace(executor).get(), executor));
  }

  /// peek, then commit.
  Tensor step(const Tensor& q, const Tensor& k, const Tensor& v) {
    auto [chunk, out] = chunk_of(q, k, v);
    TorchExecutor executor;
    check(state_.step(chunk, workspace(executor).get(), executor));
    return out;
  }

  void reset() { state_.reset(); }
  void reset_entry(int64_t batch_entry) { check(state_.reset(batch_entry)); }
  int64_t frames_seen(int64_t batch_entry) const {
    TORCH_CHECK(batch_entry >= 0 && batch_entry < config_.batch, "rehyat: batch_entry is ", batch_entry,
                ", expected 0 to ", config_.batch - 1);
    return state_.frames_seen(batch_entry);
  }

  /// The bytes of a state file.
  Tensor save() const {
    const Tensor file = at::empty({static_cast<int64_t>(rehyat::state_file_size(state_))}, at::kByte);
    check(rehyat::save_state(state_, std::as_writable_bytes(bytes_of(file))));
    return file;
  }

  /// Takes what save() gave for a state of the same configuration and weights.
  void load(const Tensor& file) {
    TORCH_CHECK(file.device().is_cpu() && file.scalar_type() == at::kByte, "rehyat: the saved state is ",
                file.toString(), ", expected a CPUByteType");
    check(rehyat::restore_state(state_, std::as_bytes(bytes_of(file.contiguous()))));
  }

  Pickled pickled() const {
    const Configuration& c = configuration_;
    return {{c.sizes, c.scale, c.numbers}, {c.names, c.phi_q, c.phi_k}, save()};
  }
  static c10::intrusive_ptr<RecurrentAttention> unpickled(const Pickled& p) {
    const auto& [numbers, model, file] = p;
    const auto& [sizes, scale, limits] = numbers;
    const auto& [names, phi_q, phi_k] = model;
    auto self =
        c10::make_intrusive<RecurrentAttention>(Configuration{sizes, scale, limits, names, phi_q, phi_k});
    self->load(file);
    return self;
  }

 private:
  int64_t size(std::size_t index) const { return configuration_.sizes.at(index); }
  PhiSettings settings() const {
    const auto& names = configuration_.names;
    TORCH_CHECK(names.at(1) != "given",
                "rehyat: feature_map is 'given', expected a map whose features need no caller");
    TORCH_CHECK(size(1) > 0 && size(2) > 0, "rehyat: heads and kv_heads are ", size(1), " and ", size(2),
                ", expected at least 1");
    return {names.at(1), names.at(2), names.at(3), size(8)};
  }

  rehyat::RecurrentConfig make_config() const {
    const Configuration& c = configuration_;
    rehyat::RecurrentConfig config{.batch = size(0),
                                   .heads = size(1),
                                   .kv_heads = size(2),
                                   .head_dim = size(3),
                                   .value_dim = size(4),
                                   .chunking = {size(5), size(6), size(7)},
                                   .phi_q = phi_q_.map(),
                                   .phi_k = phi_k_.map(),
                                   .stabilizer = stabilizer_of(c.names.at(0)),
                                   .denominator_epsilon = static_cast<float>(c.numbers.at(0)),
                                   .denominator_floor = static_cast<float>(c.numbers.at(1))};
    if (c.scale) config.scale = static_cast<float>(*c.scale);
    return config;
  }

  /// No gradient flows through a state: what would be lost in silence is refused.
  static rehyat::InputView input(const char* name, const Tensor& t) {
    TORCH_CHECK(
        !(at::GradMode::is_enabled() && t.requires_grad()), "rehyat: ", name,
        " requires a gradient, which the recurrence does not have: use torch.no_grad(), or train with "
        "hybrid_attention");
    return any_view<rehyat::InputView>(name, t);
  }
  static rehyat::RecurrentChunk keys_of(const Tensor& k, const Tensor& v) {
    rehyat::RecurrentChunk chunk;
    chunk.k = input("k", k), chunk.v = input("v", v);
    return chunk;
  }
  static std::pair<rehyat::RecurrentChunk, Tensor> chunk_of(const Tensor& q, const Tensor& k,
                                                            const Tensor& v) {
    rehyat::RecurrentChunk chunk = keys_of(k, v);
    chunk.q = input("q", q);
    const Tensor out = token_major(q, q.size(1), v.size(3), q.scalar_type());
    chunk.out = any_view<rehyat::OutputView>("out", out);
    return {chunk, out};
  }

  OwnedWorkspace workspace(const TorchExecutor& executor) const {
    return OwnedWorkspace(value_of(rehyat::RecurrentState::workspace_size(config_, executor.slots())));
  }
  static std::span<std::uint8_t> bytes_of(const Tensor& t) {
    return {t.data_ptr<std::uint8_t>(), static_cast<std::size_t>(t.numel())};
  }

  Configuration configuration_;
  PhiSide<float> phi_q_, phi_k_;
  rehyat::RecurrentConfig config_;
  Tensor memory_;
  rehyat::RecurrentState state_;
};

c10::intrusive_ptr<RecurrentAttention> create(
    int64_t batch, int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t value_dim, TensorList phi_q,
    TensorList phi_k, int64_t tokens_per_frame, int64_t chunk_frames, int64_t overlap_frames,
    std::string stabilizer, c10::optional<double> scale, double denominator_epsilon, double denominator_floor,
    std::string feature_map, int64_t degree, std::string activation, std::string output_activation) {
  const auto detached = [](const TensorList& list) {
    std::vector<Tensor> tensors = present(list);
    for (Tensor& t : tensors) t = t.detach();
    return tensors;
  };
  return c10::make_intrusive<RecurrentAttention>(Configuration{
      {batch, heads, kv_heads, head_dim, value_dim, tokens_per_frame, chunk_frames, overlap_frames, degree},
      scale,
      {denominator_epsilon, denominator_floor},
      {std::move(stabilizer), std::move(feature_map), std::move(activation), std::move(output_activation)},
      detached(phi_q),
      detached(phi_k)});
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(rehyat, m) {
  using torch::arg;
  using Self = c10::intrusive_ptr<RecurrentAttention>;
  m.class_<RecurrentAttention>("RecurrentAttention")
      .def(torch::init(&create), "",
           {arg("batch"), arg("heads"), arg("kv_heads"), arg("head_dim"), arg("value_dim"), arg("phi_q"),
            arg("phi_k"), arg("tokens_per_frame"), arg("chunk_frames") = 3, arg("overlap_frames") = 1,
            arg("stabilizer") = "row_max", arg("scale") = arg::none(), arg("denominator_epsilon") = 0.0,
            arg("denominator_floor") = 0.0, arg("feature_map") = "polynomial", arg("degree") = 2,
            arg("activation") = "gelu", arg("output_activation") = "identity"})
      .def("peek", &RecurrentAttention::peek, "", {arg("q"), arg("k"), arg("v")})
      .def("commit", &RecurrentAttention::commit, "", {arg("k"), arg("v")})
      .def("step", &RecurrentAttention::step, "", {arg("q"), arg("k"), arg("v")})
      .def("reset", &RecurrentAttention::reset)
      .def("reset_entry", &RecurrentAttention::reset_entry, "", {arg("batch_entry")})
      .def("frames_seen", &RecurrentAttention::frames_seen, "", {arg("batch_entry") = 0})
      .def("save", &RecurrentAttention::save)
      .def("load", &RecurrentAttention::load, "", {arg("file")})
      .def_pickle([](const Self& self) { return self->pickled(); },
                  [](Pickled p) { return RecurrentAttention::unpickled(p); });
}

}  // namespace rehyat_torch
