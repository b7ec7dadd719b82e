#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "interruption.hpp"
#include "rehyat/executor.hpp"
#include "rehyat/kernels.hpp"
#include "rehyat/train/distillation_parameters.hpp"
#include "training_line.hpp"

namespace rehyat::cli {

/// Bytes of workspace that a training takes. Throws BadInput, `subject` in front, if it would be refused.
std::size_t training_workspace(const train::Distillation& parameters, int slots, const Kernels& kernels,
                               const std::string& subject);

/// Runs a training: shown by `line`, ended early by `interruption`. Throws BadInput, `subject` in front.
/// The one place that train::distill() is compiled in.
void run_training(const train::Distillation& parameters, std::span<train::DistilledHead> heads,
                  ExecutorRef executor, const Kernels& kernels, const Interruption& interruption,
                  TrainingLine& line, const std::string& subject);

}  // namespace rehyat::cli
