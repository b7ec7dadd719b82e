// Views of the standard library's own mdspans.

#include "rehyat/mdspan.hpp"

#include <cstddef>
#include <cstdio>
#include <mdspan>
#include <vector>

int main() {
  std::vector<float> memory(2 * 6 * 3 * 4);
  const std::mdspan<float, std::dextents<int, 4>> packed(memory.data(), 2, 6, 3, 4);
  const rehyat::Result<rehyat::OutputView> out = rehyat::mdspan_output(packed, "out");
  if (!out.ok() || out->batch != 2 || out->tokens != 6 || out->heads != 3 || out->dim != 4) return 1;
  if (out->batch_stride != 72 || out->token_stride != 12 || out->head_stride != 4) return 2;

  const std::mdspan<const float, std::extents<std::size_t, 6, 3, 4>> fixed(memory.data());
  const rehyat::Result<rehyat::InputView> in = rehyat::mdspan_input(fixed, "in");
  if (!in.ok() || in->batch != 1 || in->tokens != 6 || in->data != memory.data()) return 3;

  const std::mdspan<float, std::dextents<int, 4>, std::layout_left> left(memory.data(), 2, 6, 3, 4);
  std::puts(rehyat::mdspan_input(left, "left").status().message());
}
