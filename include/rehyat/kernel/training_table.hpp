#pragma once
// The seam between training and its kernels: like kernel_table.hpp, for those alone who train.

#include <cstdint>

#include "rehyat/feature_map.hpp"

namespace rehyat {
namespace kernel {

/// A matrix in memory; `transposed`: what lies there are its columns.
struct MatrixOperand {
  const float* data = nullptr;
  std::int64_t stride = 0;  ///< between what lies there contiguously
  bool transposed = false;
};

/// to = (start + left * right) .* factor. `to` [rows, columns] overlaps neither left, right nor factor; it
/// may be `start`. steps > 0.
struct ProductTask {
  float* to = nullptr;
  std::int64_t to_stride = 0;
  std::int64_t rows = 0, columns = 0, steps = 0;
  MatrixOperand left, right;     ///< [rows, steps] and [steps, columns]
  const float* start = nullptr;  ///< null: zero
  std::int64_t start_stride = 0;
  const float* factor = nullptr;  ///< null: one
  std::int64_t factor_stride = 0;
};

/// features = activation(before), part i of `degree` equal parts of the columns raised to i + 1, and their
/// derivatives. All [rows, columns] without gaps; either result may lie where `before` does.
struct ActivationTask {
  const float* before = nullptr;
  float* features = nullptr;
  float* slopes = nullptr;  ///< null: not wanted
  std::int64_t rows = 0, columns = 0;
  Activation activation = Activation::identity;
  int degree = 1;
};

/// The distance between rows of numerators by their denominator and a teacher's. All without gaps.
struct DistanceTask {
  const float* joint = nullptr;    ///< [rows, channels + 1]: numerators, then the denominator
  const float* teacher = nullptr;  ///< [rows, channels]
  std::int64_t rows = 0, channels = 0;
  bool squares = false;      ///< of squares, not of magnitudes
  float* d_joint = nullptr;  ///< the derivative with respect to `joint`; null: not wanted
};

/// Sums over rows and channels.
struct Distance {
  double difference = 0;  ///< |y - teacher|
  double size = 0;        ///< |teacher|
};

}  // namespace kernel

/// The kernels of one instruction set for training.
struct TrainingKernels {
  void (*multiply)(const kernel::ProductTask&);
  void (*activate)(const kernel::ActivationTask&);
  kernel::Distance (*distance)(const kernel::DistanceTask&);
};

}  // namespace rehyat
