#include "training.hpp"

#include "bad_input.hpp"
#include "rehyat/io/safetensors.hpp"
#include "rehyat/train/distillation.hpp"

namespace rehyat::cli {

Training::Training(std::span<const train::DistillationClip> clips, const train::Distillation& parameters)
    : parameters_(parameters) {
  parameters_.clips = clips;
  const FeatureMap& map = parameters_.map;
  phi_q_.resize(static_cast<std::size_t>(train::weight_count(map, query_heads(), head_dim())));
  phi_k_.resize(static_cast<std::size_t>(train::weight_count(map, kv_heads(), head_dim())));
  parameters_.phi_q = train::weights_in(phi_q_.data(), map, query_heads(), head_dim());
  parameters_.phi_k = train::weights_in(phi_k_.data(), map, kv_heads(), head_dim());
  heads_.resize(static_cast<std::size_t>(query_heads()));
}

std::size_t Training::workspace_bytes(int slots, const Kernels& kernels, const std::string& subject) const {
  return require(train::workspace_size(parameters_, slots, kernels), subject);
}

void Training::run(ExecutorRef executor, const Kernels& kernels, const Interruption& interruption,
                   TrainingLine& line, const std::string& subject) {
  const std::size_t bytes = workspace_bytes(executor.slots(), kernels, subject);
  HeapArray<char> memory;
  if (!memory.allocate(bytes)) {
    throw BadInput(subject + "there is no memory for " + std::to_string(bytes) + " bytes of workspace");
  }
  const auto observe = [&](const train::DistillationProgress& progress) {
    line.update(progress);
    return !interruption.asked_for();
  };
  require(train::distill(parameters_, heads_, {memory.data(), bytes}, executor, observe, kernels), subject);
}

void Training::write(const std::string& option, const std::string& path) const {
  const train::Distillation& p = parameters_;
  require(write_feature_maps(path.c_str(), train::distilled_map(p.map, p.phi_q, query_heads()),
                             train::distilled_map(p.map, p.phi_k, kv_heads()), head_dim()),
          option + " ");
}

}  // namespace rehyat::cli
