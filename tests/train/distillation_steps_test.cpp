// What a step of distillation is drawn from, and place cells, the start that knows where in the frame a token
// is.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "rehyat/thread_pool.hpp"
#include "rehyat/train/detail/activation.hpp"
#include "rehyat/train/detail/batch.hpp"
#include "rehyat/train/detail/place_cells.hpp"
#include "rehyat/train/detail/weights.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"
#include "train/student.hpp"

namespace rehyat {
namespace {

using support::Random;
using support::Student;
using train::DistillationProgress;
using train::Initialization;
using train::detail::Places;

TEST(PlaceCellsTest, NeighboursShareACellWhereThereAreFew) {
  for (const std::int64_t features : {1, 3, 5, 12, 30}) {
    const Places places{12, features};
    EXPECT_EQ(places.cells(), std::min<std::int64_t>(features, 12));
    std::vector<std::int64_t> tokens_of(static_cast<std::size_t>(places.cells()));
    for (std::int64_t place = 0; place < 12; ++place) {
      const std::int64_t cell = places.cell_of(place);
      EXPECT_EQ(places.cell_of(5 * 12 + place), cell);
      EXPECT_GE(cell, place == 0 ? 0 : places.cell_of(place - 1));
      ++tokens_of[static_cast<std::size_t>(cell)];
    }
    const auto [least, most] = std::minmax_element(tokens_of.begin(), tokens_of.end());
    EXPECT_GT(*least, 0);
    EXPECT_LE(*most - *least, 1);
  }
}

/// Tokens, their cells, and a map of two heads to be taught, in double.
struct Lesson {
  static constexpr std::int64_t head = 1, heads = 2, tokens = 9, dim = 5, hidden = 7, features = 6, cells = 4;
  train::Phi<double> phi;
  std::vector<double> weights, gradient, x;
  std::vector<std::int64_t> right;
  train::PhiGradient<double> arrays, d_arrays;

  explicit Lesson(Random& random) {
    phi.map = {.kind = FeatureMap::Kind::polynomial, .num_layers = 2, .degree = 2};
    phi.map.heads = heads;
    phi.map.output_activation = Activation::relu;  // the loss is not of what it lets through
    phi.map.layers[0].out_dim = hidden, phi.map.layers[1].out_dim = features;
    const auto has_bias = [](int) { return true; };
    const auto count = train::detail::cut<double>(phi.map, dim, has_bias, nullptr, arrays);
    weights.resize(static_cast<std::size_t>(count)), gradient.resize(weights.size());
    train::detail::cut(phi.map, dim, has_bias, weights.data(), arrays);
    train::detail::cut(phi.map, dim, has_bias, gradient.data(), d_arrays);
    for (double& weight : weights) weight = random.normal();
    for (std::int64_t i = 0; i < tokens * dim; ++i) x.push_back(random.normal());
    for (std::int64_t i = 0; i < tokens; ++i) right.push_back(random.integer(0, cells - 1));
    for (int layer = 0; layer < 2; ++layer) {
      phi.weight[layer] = arrays.weight[layer], phi.bias[layer] = arrays.bias[layer];
    }
  }

  double teach() {
    using Teacher = train::detail::PlaceTeacher<double>;
    train::detail::Arena measure;
    const Teacher measured(phi, dim, measure);
    support::NanWorkspace workspace(measure.size());
    train::detail::Arena arena(workspace.get());
    return Teacher(phi, dim, arena).teach(head, {x.data(), tokens, dim}, right, cells, d_arrays);
  }

  /// The loss by its definition.
  double expected() const {
    double loss = 0;
    for (std::int64_t i = 0; i < tokens; ++i) {
      std::vector<double> before(x.begin() + i * dim, x.begin() + (i + 1) * dim);
      for (int layer = 0; layer < 2; ++layer) {
        const std::int64_t outputs = phi.map.layers[layer].out_dim,
                           inputs = static_cast<std::int64_t>(before.size());
        std::vector<double> y;
        for (std::int64_t j = head * outputs; j < (head + 1) * outputs; ++j) {
          y.push_back(phi.bias[layer][j]);
          for (std::int64_t n = 0; n < inputs; ++n) {
            const double input = before[static_cast<std::size_t>(n)];
            y.back() += phi.weight[layer][j * inputs + n] *
                        (layer == 0 ? input : train::detail::activate(phi.map.activation, input));
          }
        }
        before = y;
      }
      for (std::int64_t cell = 0; cell < cells; ++cell) {
        const bool on = cell == right[static_cast<std::size_t>(i)];
        const double y = before[static_cast<std::size_t>(cell)];
        loss += std::log1p(std::exp(on ? -y : y));  // - log of the logistic function, or of 1 - it
      }
    }
    return loss;
  }
};

TEST(PlaceCellsTest, TheLossAndItsDifferences) {
  for (const std::uint64_t seed : support::seeds(20)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    Lesson lesson(random);
    const double loss = lesson.teach();
    EXPECT_NEAR(loss, lesson.expected(), 1e-9 * loss);
    double derivative = 0;
    std::vector<double> along;
    for (const double d : lesson.gradient) {
      along.push_back(random.normal());
      derivative += along.back() * d;
    }
    const std::vector<double> weights = lesson.weights;
    constexpr double step = 1e-6;
    const auto loss_at = [&](double sign) {
      for (std::size_t i = 0; i < along.size(); ++i) {
        lesson.weights[i] = weights[i] + sign * step * along[i];
      }
      return lesson.expected();
    };
    EXPECT_NEAR(derivative, (loss_at(1) - loss_at(-1)) / (2 * step), 1e-6 * std::abs(derivative) + 1e-7);
  }
}

TEST(PlaceCellsTest, FeaturesWithoutACellAreNotTaught) {
  Random random(1);
  Lesson lesson(random);
  lesson.teach();
  for (std::int64_t j = 0; j < Lesson::heads * Lesson::features; ++j) {
    const bool taught = j >= Lesson::features && j < Lesson::features + Lesson::cells;
    EXPECT_EQ(lesson.d_arrays.bias[1][j] != 0, taught) << j;
  }
}

using Observe = std::function<bool(const DistillationProgress&)>;

/// One instantiation for all.
void distill(Student& student, ExecutorRef executor, const Observe& observe = support::go_on) {
  const Status status = student.distill(executor, observe);
  ASSERT_TRUE(status.ok()) << status.message();
}

/// Frames of many places: every token is of its own, and looks up the keys of that place.
class Lookup {
 public:
  static constexpr std::int64_t frames = 8, places = 96;

  explicit Lookup(Initialization initialization) : student(1, frames * places / Student::tokens_per_frame) {
    Random random(2);
    const std::vector<float> of_place = random.normals(places * Student::dim, 2.5);
    for (const auto& [rows, heads] :
         {std::pair{&student.queries(0), Student::heads}, std::pair{&student.keys(0), Student::kv_heads}}) {
      for (std::int64_t i = 0; i < static_cast<std::int64_t>(rows->size()); ++i) {
        const std::int64_t place = i / Student::dim / heads % places;
        (*rows)[static_cast<std::size_t>(i)] =
            of_place[static_cast<std::size_t>(place * Student::dim + i % Student::dim)] +
            static_cast<float>(0.3 * random.normal());
      }
    }
    clips.assign(student.p.clips.begin(), student.p.clips.end());
    clips[0].tokens_per_frame = places;
    student.p.clips = clips;
    student.p.map.layers[1].out_dim = places;
    student.p.initialization = initialization, student.p.steps = 2;
    student.allocate();
  }

  Student student;
  std::vector<train::DistillationClip> clips;
};

TEST(PlaceCellsTest, AreABetterStartWhereHeadsLookUpAPlace) {
  Lookup silent(Initialization::silent), places(Initialization::places);
  SerialExecutor serial;
  distill(silent.student, serial);
  distill(places.student, serial);
  for (std::size_t h = 0; h < Student::heads; ++h) {
    EXPECT_LT(places.student.results[h].distilled.validation.difference,
              0.9 * silent.student.results[h].distilled.validation.difference)
        << h;
  }
}

/// With fewer features than places, several clips of other lengths, and batches.
TEST(PlaceCellsTest, TheBitsDoNotDependOnTheExecutor) {
  const auto distilled = [](ExecutorRef executor, std::int64_t features, std::uint64_t seed = 0) {
    Student student(2);
    student.p.initialization = Initialization::places;
    student.p.place_steps = 12, student.p.steps = 5, student.p.batch_clips = 1, student.p.seed = seed;
    student.p.map.layers[1].out_dim = features;
    student.allocate();
    distill(student, executor);
    EXPECT_TRUE(support::all_finite(student.all_weights()));
    return student.all_weights();
  };
  for (const std::int64_t features : {4, 16}) {
    SerialExecutor serial;
    ThreadPool pool(3);
    const std::vector<float> expected = distilled(serial, features);
    EXPECT_TRUE(support::bit_equal(distilled(serial, features), expected));
    EXPECT_TRUE(support::bit_equal(distilled(pool, features), expected));
    EXPECT_FALSE(support::bit_equal(distilled(serial, features, 1), expected));
  }
}

TEST(PlaceCellsTest, EndsWhereItIsTold) {
  Student student;
  student.p.initialization = Initialization::places;
  std::int64_t last = 0;
  SerialExecutor serial;
  distill(student, serial, [&](const DistillationProgress& progress) {
    last = progress.place_step;
    return progress.place_step != 2 * student.p.evaluate_every;  // once told, it is not asked again
  });
  EXPECT_EQ(last, 2 * student.p.evaluate_every);
  EXPECT_TRUE(support::all_finite(student.all_weights()));
  for (const train::DistilledHead& head : student.results) {
    EXPECT_TRUE(head.began);
    EXPECT_EQ(head.steps, 0);
    EXPECT_LE(head.distilled.validation.difference, head.window.validation.difference);
  }
}

TEST(BatchTest, TakesSomeClipsAndSomeOfTheirChunks) {
  const Student student(3);
  train::Distillation p = student.p;
  train::detail::RandomStream random(1, 0);
  std::set<std::size_t> seen;
  for (int i = 0; i < 60; ++i) {
    p.batch_clips = 2, p.batch_chunks = i % 3;
    const auto batch = train::detail::draw_batch(p, random);
    std::set<std::size_t> taken;
    bool whole = true;
    for (std::size_t c = 0; c < batch.size(); ++c) {
      if (batch[c].chunks.empty()) continue;
      taken.insert(c);
      whole &= batch[c].chunks == train::detail::training_cut(p, p.clips[c], batch[c].shift).scored_chunks();
    }
    if (p.batch_chunks == 0) {
      EXPECT_TRUE(whole);
      EXPECT_EQ(taken.size(), 2);
    } else {
      EXPECT_EQ(train::detail::count_chunks(batch), p.batch_chunks);
      EXPECT_LE(taken.size(), 2);
    }
    seen.insert(taken.begin(), taken.end());
  }
  EXPECT_EQ(seen.size(), 3);
}

/// Every clip's distance is by its own teacher's size: how large its values are does not matter.
TEST(BatchTest, NoClipOutweighsTheOthers) {
  const auto losses_with = [](float factor) {
    Student student(2);
    for (float& value : student.values(0)) value *= factor;
    student.p.steps = 8, student.p.evaluate_every = 1;
    std::vector<double> losses;
    SerialExecutor serial;
    distill(student, serial, [&](const DistillationProgress& progress) {
      if (progress.step > 0) losses.push_back(progress.loss);
      return true;
    });
    return losses;
  };
  EXPECT_EQ(losses_with(1), losses_with(0x1p10f));
}

/// Of clips and steps that have nothing to be relative to, nothing is learnt.
TEST(BatchTest, AClipOfZerosDoesNoHarm) {
  Student student(2);
  std::fill(student.values(0).begin(), student.values(0).end(), 0.0f);
  SerialExecutor serial;
  distill(student, serial);
  EXPECT_TRUE(support::all_finite(student.all_weights()));
  for (const train::DistilledHead& head : student.results) EXPECT_FALSE(head.fell_back);
}

}  // namespace
}  // namespace rehyat
