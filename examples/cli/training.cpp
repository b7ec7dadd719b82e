#include "training.hpp"

#include <memory>

#include "bad_input.hpp"
#include "rehyat/train/distillation.hpp"

namespace rehyat::cli {

std::size_t training_workspace(const train::Distillation& parameters, int slots, const Kernels& kernels,
                               const std::string& subject) {
  return require(train::workspace_size(parameters, slots, kernels), subject);
}

void run_training(const train::Distillation& parameters, std::span<train::DistilledHead> heads,
                  ExecutorRef executor, const Kernels& kernels, const Interruption& interruption,
                  TrainingLine& line, const std::string& subject) {
  const std::size_t bytes = training_workspace(parameters, executor.slots(), kernels, subject);
  const std::unique_ptr<char[]> memory(new char[bytes]);
  const auto observe = [&](const train::DistillationProgress& progress) {
    line.update(progress);
    return !interruption.asked_for();
  };
  require(train::distill(parameters, heads, {memory.get(), bytes}, executor, observe, kernels), subject);
}

}  // namespace rehyat::cli
