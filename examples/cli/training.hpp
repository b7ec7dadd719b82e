#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "interruption.hpp"
#include "rehyat/executor.hpp"
#include "rehyat/kernels.hpp"
#include "rehyat/train/distillation_parameters.hpp"
#include "training_line.hpp"

namespace rehyat::cli {

/// A training, its weights and what came of it. Not to be copied: the parameters view the weights. The one
/// place that train::distill() is compiled in.
class Training {
 public:
  /// `parameters` with all but the clips, phi_q and phi_k.
  Training(std::span<const train::DistillationClip> clips, const train::Distillation& parameters);
  Training(const Training&) = delete;
  Training& operator=(const Training&) = delete;

  /// Bytes of workspace that it takes. Throws BadInput, `subject` in front, if it would be refused.
  std::size_t workspace_bytes(int slots, const Kernels& kernels, const std::string& subject) const;

  /// Shown by `line`, ended early by `interruption`. Throws BadInput, `subject` in front.
  void run(ExecutorRef executor, const Kernels& kernels, const Interruption& interruption, TrainingLine& line,
           const std::string& subject);

  /// Writes the maps as learnt. Throws BadInput.
  void write(const std::string& option, const std::string& path) const;

  const train::Distillation& parameters() const { return parameters_; }
  const std::vector<train::DistilledHead>& heads() const { return heads_; }
  std::int64_t query_heads() const { return parameters_.clips[0].q.heads; }
  std::int64_t kv_heads() const { return parameters_.clips[0].k.heads; }

 private:
  std::int64_t head_dim() const { return parameters_.clips[0].q.dim; }

  train::Distillation parameters_;
  std::vector<float> phi_q_, phi_k_;
  std::vector<train::DistilledHead> heads_;
};

}  // namespace rehyat::cli
