// rehyat::hybrid_attention: forward through the kernels (float64: through rehyat/train), and its gradients.

#include "rehyat/train/hybrid_attention.hpp"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>

#include "phi.hpp"
#include "rehyat/attention.hpp"
#include "tensors.hpp"

namespace rehyat_torch {
namespace {

using at::Tensor;
using torch::autograd::variable_list;

/// The arguments that are no tensors, as the schema has them.
struct Options : torch::CustomClassHolder {
  int64_t tokens_per_frame, chunk_frames, overlap_frames;
  bool causal;
  std::string stabilizer;
  c10::optional<double> scale;
  double denominator_epsilon, denominator_floor;
  PhiSettings phi;

  rehyat::Chunking chunking() const { return {tokens_per_frame, chunk_frames, overlap_frames}; }
};
constexpr const char* schema =
    "hybrid_attention(Tensor q, Tensor k, Tensor v, Tensor?[] phi_q, Tensor?[] phi_k, *, int "
    "tokens_per_frame, "
    "int chunk_frames=3, int overlap_frames=1, bool causal=True, str stabilizer=\"row_max\", float? "
    "scale=None, "
    "float denominator_epsilon=0., float denominator_floor=0., str feature_map=\"polynomial\", int degree=2, "
    "str activation=\"gelu\", str output_activation=\"identity\") -> Tensor";
using Schema = Tensor(const Tensor&, const Tensor&, const Tensor&, const TensorList&, const TensorList&,
                      int64_t, int64_t, int64_t, bool, std::string, c10::optional<double>, double, double,
                      std::string, int64_t, std::string, std::string);

/// The fields that parameters for kernels and for training share.
template <class Parameters>
void set_options(Parameters& p, const Options& o) {
  p.chunking = o.chunking();
  p.direction = o.causal ? rehyat::Direction::causal : rehyat::Direction::bidirectional;
  p.stabilizer = stabilizer_of(o.stabilizer);
  using Number = decltype(p.denominator_epsilon);
  if (o.scale) p.scale = static_cast<Number>(*o.scale);
  p.denominator_epsilon = static_cast<Number>(o.denominator_epsilon);
  p.denominator_floor = static_cast<Number>(o.denominator_floor);
}

/// Tensors of one call, those of phi without gaps in their lists.
struct Inputs {
  Tensor q, k, v;
  std::vector<Tensor> phi_q, phi_k;

  void check_shapes() const {
    for (const auto& [name, t] : {std::pair("q", &q), std::pair("k", &k), std::pair("v", &v)}) {
      TORCH_CHECK(t->dim() == 4 && t->size(1) > 0, "rehyat: ", name, " has shape ", t->sizes(),
                  ", expected [batch, heads, tokens, dim]");
    }
  }
};

/// Given features by name: phi_q[0] is given.q, phi_q[1] given.q_denominator, and so for k.
template <class Given, class View>
void set_given(Given& given, const Inputs& in, const View& view) {
  given.q = view("phi_q[0]", in.phi_q[0]);
  given.k = view("phi_k[0]", in.phi_k[0]);
  if (in.phi_q.size() > 1) given.q_denominator = view("phi_q[1]", in.phi_q[1]);
  if (in.phi_k.size() > 1) given.k_denominator = view("phi_k[1]", in.phi_k[1]);
}

/// A call in Real, with the weights that it keeps alive.
template <class Real>
struct TrainCall {
  PhiSide<Real> phi_q, phi_k;
  rehyat::train::HybridAttention<Real> p;

  TrainCall(const Inputs& in, const Options& o)
      : phi_q("phi_q", in.phi_q, o.phi, in.q.size(1), in.q.size(3)),
        phi_k("phi_k", in.phi_k, o.phi, in.k.size(1), in.k.size(3)) {
    p.q = typed_view<const Real>("q", in.q);
    p.k = typed_view<const Real>("k", in.k);
    p.v = typed_view<const Real>("v", in.v);
    p.phi_q = phi_q.phi, p.phi_k = phi_k.phi;
    set_options(p, o);
    if (o.phi.feature_map == "given") set_given(p.given, in, typed_view<const Real>);
  }
};

Tensor forward_double(const Inputs& in, const Options& o) {
  const TrainCall<double> call(in, o);
  TorchExecutor executor;
  const Tensor out = token_major(in.q, in.q.size(1), in.v.size(3), at::kDouble);
  const OwnedWorkspace workspace(value_of(rehyat::train::workspace_size(call.p, executor.slots())));
  check(rehyat::train::hybrid_attention(call.p, typed_view<double>("out", out), workspace.get(), executor));
  return out;
}

Tensor forward_kernels(const Inputs& in, const Options& o) {
  using rehyat::InputView;
  const PhiSide<float> phi_q("phi_q", in.phi_q, o.phi, in.q.size(1), in.q.size(3)),
      phi_k("phi_k", in.phi_k, o.phi, in.k.size(1), in.k.size(3));
  rehyat::HybridAttention p;
  p.q = any_view<InputView>("q", in.q), p.k = any_view<InputView>("k", in.k),
  p.v = any_view<InputView>("v", in.v);
  p.phi_q = phi_q.map(), p.phi_k = phi_k.map();
  set_options(p, o);
  if (o.phi.feature_map == "given") set_given(p.given, in, any_view<InputView>);
  const Tensor out = token_major(in.q, in.q.size(1), in.v.size(3), in.q.scalar_type());
  p.out = any_view<rehyat::OutputView>("out", out);
  TorchExecutor executor;
  const OwnedWorkspace workspace(value_of(rehyat::workspace_size(p, executor.slots())));
  check(rehyat::hybrid_attention(p, workspace.get(), executor));
  return out;
}

/// Views of fresh gradients of phi's tensors.
template <class Real>
rehyat::train::PhiGradient<Real> phi_gradient(const std::vector<Tensor>& gradients) {
  rehyat::train::PhiGradient<Real> d;
  for (std::size_t i = 0; i + 1 < gradients.size(); i += 2) {
    d.weight[i / 2] = gradients[i].data_ptr<Real>();
    if (gradients[i + 1].numel() > 0) d.bias[i / 2] = gradients[i + 1].data_ptr<Real>();
  }
  return d;
}

/// A converted copy only where the type differs, and for the elements of dim that do not lie side by side.
Tensor readable(const Tensor& t, at::ScalarType type) {
  const Tensor converted = t.to(type);
  return converted.dim() == 4 && converted.size(3) > 1 && converted.stride(3) != 1 ? converted.contiguous()
                                                                                   : converted;
}

/// Gradients of q, k, v, then of phi_q's and phi_k's tensors, in Real; undefined where not wanted.
template <class Real>
variable_list backward(const Inputs& original, const Options& o, const Tensor& d_out,
                       const std::vector<bool>& wanted) {
  constexpr at::ScalarType type = c10::CppTypeToScalarType<Real>::value;
  const bool given = o.phi.feature_map == "given";
  Inputs in = original;
  for (Tensor* t : {&in.q, &in.k, &in.v}) *t = t->to(type);
  for (std::vector<Tensor>* side : {&in.phi_q, &in.phi_k}) {
    for (Tensor& t : *side) t = t.to(type);
  }
  const TrainCall<Real> call(in, o);
  std::size_t next = 0;
  const auto gradient_of = [&](const Tensor& t) {
    return wanted[next++] ? token_major(t, t.size(1), t.size(3), type) : Tensor();
  };
  const auto gradients_of_side = [&](const std::vector<Tensor>& side) {
    std::vector<Tensor> gradients;
    const auto begin = wanted.begin() + static_cast<std::ptrdiff_t>(next);
    const bool any = std::count(begin, begin + static_cast<std::ptrdiff_t>(side.size()), true) > 0;
    for (const Tensor& t : side) {
      if (given) {
        gradients.push_back(gradient_of(t));
      } else {
        ++next;
        if (any) gradients.push_back(at::empty(t.sizes(), t.options()));
      }
    }
    return gradients;
  };
  const auto view = [](const char* name, const Tensor& t) {
    return t.defined() ? typed_view<Real>(name, t) : rehyat::TensorView<Real>{};
  };
  const Tensor d_q = gradient_of(in.q), d_k = gradient_of(in.k), d_v = gradient_of(in.v);
  const std::vector<Tensor> d_phi_q = gradients_of_side(in.phi_q), d_phi_k = gradients_of_side(in.phi_k);
  rehyat::train::HybridGradients<Real> d;
  d.q = view("q", d_q), d.k = view("k", d_k), d.v = view("v", d_v);
  if (given) {
    set_given(d.given, {{}, {}, {}, d_phi_q, d_phi_k}, view);
  } else {
    d.phi_q = phi_gradient<Real>(d_phi_q), d.phi_k = phi_gradient<Real>(d_phi_k);
  }
  TorchExecutor executor;
  const OwnedWorkspace workspace(value_of(rehyat::train::workspace_size(call.p, d, executor.slots())));
  const Tensor d_out_real = readable(d_out, type);
  check(rehyat::train::hybrid_attention_gradients(
      call.p, typed_view<const Real>("the output's gradient", d_out_real), d, workspace.get(), executor));
  variable_list result{d_q, d_k, d_v};
  for (const auto& [side, tensors] : {std::pair(&d_phi_q, &in.phi_q), std::pair(&d_phi_k, &in.phi_k)}) {
    for (std::size_t i = 0; i < tensors->size(); ++i) result.push_back(side->empty() ? Tensor() : (*side)[i]);
  }
  return result;
}

Tensor forward_cpu(const Inputs& in, const Options& o) {
  in.check_shapes();
  return in.q.scalar_type() == at::kDouble ? forward_double(in, o) : forward_kernels(in, o);
}

Tensor forward_meta(const Inputs& in, const Options&) {
  in.check_shapes();
  return token_major(in.q, in.q.size(1), in.v.size(3), in.q.scalar_type());
}

/// The operator below autograd: the CPU's, or the one for shapes alone.
Tensor redispatch(const Inputs& in, const Options& o) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("rehyat::hybrid_attention", "").typed<Schema>();
  const auto list = [](const std::vector<Tensor>& tensors) {
    TensorList optional;
    for (const Tensor& t : tensors)
      optional.push_back(t.numel() == 0 ? c10::nullopt : c10::optional<Tensor>(t));
    return optional;
  };
  return op.call(in.q, in.k, in.v, list(in.phi_q), list(in.phi_k), o.tokens_per_frame, o.chunk_frames,
                 o.overlap_frames, o.causal, o.stabilizer, o.scale, o.denominator_epsilon,
                 o.denominator_floor, o.phi.feature_map, o.phi.degree, o.phi.activation,
                 o.phi.output_activation);
}

/// Saves the inputs alone: the backward pass recomputes.
class HybridAttention : public torch::autograd::Function<HybridAttention> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& q, const Tensor& k,
                        const Tensor& v, at::TensorList phi, int64_t num_phi_q,
                        const c10::intrusive_ptr<Options>& options) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    variable_list saved{q, k, v};
    saved.insert(saved.end(), phi.begin(), phi.end());
    context->save_for_backward(saved);
    context->saved_data["num_phi_q"] = num_phi_q;
    context->saved_data["options"] = c10::IValue::make_capsule(options);
    return redispatch(inputs(saved, num_phi_q), *options);
  }

  static variable_list backward(torch::autograd::AutogradContext* context, const variable_list& d_out) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "rehyat: hybrid_attention has no second derivative (create_graph)");
    const variable_list saved = context->get_saved_variables();
    const auto capsule = context->saved_data["options"].toCapsule();
    const auto& options = static_cast<const Options&>(*capsule);
    std::vector<bool> wanted;
    for (std::size_t i = 0; i < saved.size(); ++i) wanted.push_back(context->needs_input_grad(i));
    const Inputs in = inputs(saved, context->saved_data["num_phi_q"].toInt());
    variable_list d = in.q.scalar_type() == at::kDouble
                          ? rehyat_torch::backward<double>(in, options, d_out[0], wanted)
                          : rehyat_torch::backward<float>(in, options, d_out[0], wanted);
    for (std::size_t i = 0; i < saved.size(); ++i) {
      d[i] = wanted[i] && d[i].defined() ? d[i].to(saved[i].scalar_type()) : Tensor();
    }
    d.resize(d.size() + 2);  // num_phi_q and options have none
    return d;
  }

 private:
  static Inputs inputs(const variable_list& all, int64_t num_phi_q) {
    const auto middle = all.begin() + 3 + static_cast<std::ptrdiff_t>(num_phi_q);
    return {all[0], all[1], all[2], {all.begin() + 3, middle}, {middle, all.end()}};
  }
};

Tensor with_gradients(const Inputs& in, c10::intrusive_ptr<Options> options) {
  variable_list phi = in.phi_q;
  phi.insert(phi.end(), in.phi_k.begin(), in.phi_k.end());
  return HybridAttention::apply(in.q, in.k, in.v, at::TensorList(phi), static_cast<int64_t>(in.phi_q.size()),
                                options);
}

/// One of the three above as a function with the arguments of the schema.
template <auto function>
Tensor entry(const Tensor& q, const Tensor& k, const Tensor& v, const TensorList& phi_q,
             const TensorList& phi_k, int64_t tokens_per_frame, int64_t chunk_frames, int64_t overlap_frames,
             bool causal, std::string stabilizer, c10::optional<double> scale, double denominator_epsilon,
             double denominator_floor, std::string feature_map, int64_t degree, std::string activation,
             std::string output_activation) {
  auto options = c10::make_intrusive<Options>();
  options->tokens_per_frame = tokens_per_frame;
  options->chunk_frames = chunk_frames;
  options->overlap_frames = overlap_frames;
  options->causal = causal;
  options->stabilizer = std::move(stabilizer);
  options->scale = scale;
  options->denominator_epsilon = denominator_epsilon;
  options->denominator_floor = denominator_floor;
  options->phi = {std::move(feature_map), std::move(activation), std::move(output_activation), degree};
  const Inputs in{q, k, v, present(phi_q), present(phi_k)};
  if constexpr (std::is_invocable_v<decltype(function), const Inputs&, const Options&>) {
    return function(in, *options);
  } else {
    return function(in, std::move(options));
  }
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(rehyat, m) { m.def(schema); }
TORCH_LIBRARY_IMPL(rehyat, CPU, m) { m.impl("hybrid_attention", entry<forward_cpu>); }
TORCH_LIBRARY_IMPL(rehyat, Meta, m) { m.impl("hybrid_attention", entry<forward_meta>); }
TORCH_LIBRARY_IMPL(rehyat, Autograd, m) { m.impl("hybrid_attention", entry<with_gradients>); }

}  // namespace rehyat_torch
