#include "clips.hpp"

#include "bad_input.hpp"

namespace rehyat::cli {

Clip load_clip(const std::string& option, const std::string& names) {
  const std::size_t first = names.find(','), second = names.find(',', first + 1);
  if (first == std::string::npos || second == std::string::npos ||
      names.find(',', second + 1) != std::string::npos) {
    throw BadInput(option + " " + names + ": expected three files, Q,K,V");
  }
  Clip clip{load_array(option, names.substr(0, first)),
            load_array(option, names.substr(first + 1, second - first - 1)),
            load_array(option, names.substr(second + 1))};
  for (const NamedArray* array : {&clip.q, &clip.k, &clip.v}) {
    if (array->has_frames() && array->frames() == clip.q.frames() && array->tokens() == clip.q.tokens())
      continue;
    throw BadInput(array->subject + "shape " + detail::ShapeText(array->array.extents()).c_str() +
                   "; expected [frames, tokens, heads, dim], with the frames and tokens of Q");
  }
  return clip;
}

}  // namespace rehyat::cli
