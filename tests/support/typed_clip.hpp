#pragma once
// A clip whose tensors are stored in other types than float32.

#include <deque>
#include <vector>

#include "element_tensor.hpp"
#include "test_clip.hpp"

namespace rehyat::support {

/// How the tensors of a clip are stored.
struct ElementTypes {
  ElementType q = ElementType::float32, k = q, v = q, given = q, out = q;

  static ElementTypes random(Random& r) {
    const auto pick = [&] { return random_element(r); };
    return {.q = pick(), .k = pick(), .v = pick(), .given = pick(), .out = pick()};
  }

  /// A type for the tail that loses nothing.
  ElementType tail() const { return k == v ? k : ElementType::float32; }

  /// Leaves of the clip's values what the types hold: as float32 it then gives the same bits.
  void round(TestClip& clip) const {
    clip.q = rounded(clip.q, q), clip.k = rounded(clip.k, k), clip.v = rounded(clip.v, v);
    for (auto* features :
         {&clip.given_q, &clip.given_k, &clip.given_q_denominator, &clip.given_k_denominator}) {
      *features = rounded(*features, given);
    }
  }
};

/// The inputs of a clip in those types.
class TypedInputs {
 public:
  TypedInputs(const TestClip& clip, const ElementTypes& types)
      : q_(store(clip.q_view(), clip.q, types.q)),
        k_(store(clip.k_view(), clip.k, types.k)),
        v_(store(clip.v_view(), clip.v, types.v)) {
    const GivenFeatures given = clip.given();
    given_ = {store(given.q, clip.given_q, types.given), store(given.k, clip.given_k, types.given),
              store(given.q_denominator, clip.given_q_denominator, types.given),
              store(given.k_denominator, clip.given_k_denominator, types.given)};
  }

  /// Operator parameters or a chunk, on these inputs.
  template <class P>
  void feed(P& parameters) const {
    parameters.q = q_, parameters.k = k_, parameters.v = v_;
    if constexpr (requires { parameters.given; }) parameters.given = given_;
  }

 private:
  InputView store(const InputView& shape, const std::vector<float>& values, ElementType type) {
    if (shape.data == nullptr) return {};
    ElementTensor& tensor = tensors_.emplace_back(type, shape);
    tensor.assign(values);
    return tensor.input();
  }

  std::deque<ElementTensor> tensors_;
  InputView q_, k_, v_;
  GivenFeatures given_;
};

}  // namespace rehyat::support
