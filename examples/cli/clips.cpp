#include "clips.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "bad_input.hpp"

namespace rehyat::cli {
namespace {

template <class T>
std::span<const T> elements_of(const MappedArray& a) {
  return {static_cast<const T*>(a.array.data), static_cast<std::size_t>(a.tokens() * a.heads() * a.dim())};
}

bool is_finite(const MappedArray& a) {
  if (a.array.type == ElementType::float16) {
    constexpr unsigned exponent = 0x7c00;
    return std::ranges::all_of(elements_of<std::uint16_t>(a),
                               [](unsigned bits) { return (bits & exponent) != exponent; });
  }
  return std::ranges::all_of(elements_of<float>(a), [](float x) { return std::isfinite(x); });
}

}  // namespace

Clip map_clip(const std::string& option, const std::string& names) {
  const std::size_t first = names.find(','), second = names.find(',', first + 1);
  if (first == std::string::npos || second == std::string::npos ||
      names.find(',', second + 1) != std::string::npos) {
    throw BadInput(option + " " + names + ": expected three files, Q,K,V");
  }
  Clip clip{map_array(option, names.substr(0, first)),
            map_array(option, names.substr(first + 1, second - first - 1)),
            map_array(option, names.substr(second + 1))};
  for (const MappedArray* array : {&clip.q, &clip.k, &clip.v}) {
    if (array->has_frames() && array->frames() == clip.q.frames() && array->tokens() == clip.q.tokens())
      continue;
    throw BadInput(array->subject + "shape " + detail::ShapeText(array->array.extents()).c_str() +
                   "; expected [frames, tokens, heads, dim], with the frames and tokens of Q");
  }
  return clip;
}

void check_finite(const Clip& clip) {
  for (const MappedArray* array : {&clip.q, &clip.k, &clip.v}) {
    if (!is_finite(*array)) throw BadInput(array->subject + "has a NaN or infinity, expected finite values");
  }
}

}  // namespace rehyat::cli
