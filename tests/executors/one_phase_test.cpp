// Operators and recurrences that every thread calls at once, without a barrier: the bits of the ordinary
// calls, and the same refusals.

#include "rehyat/one_phase.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "rehyat/packed_weights.hpp"
#include "support/clip_stream.hpp"
#include "support/isas.hpp"
#include "support/typed_clip.hpp"

namespace rehyat {
namespace {

using support::bit_equal;
using support::ClipStream;
using support::ElementTensor;
using support::ElementTypes;
using support::Geometry;
using support::NanWorkspace;
using support::OwnedState;
using support::Random;
using support::TestClip;
using support::TypedInputs;

/// Calls part(ith, &report) on `nth` threads of their own, with nothing that orders them. All must succeed.
/// Returns what they reported together.
template <class Part>
DenominatorReport run_threads(int nth, const Part& part) {
  std::vector<Status> statuses(static_cast<std::size_t>(nth));
  std::vector<DenominatorReport> reports(statuses.size());
  std::vector<std::thread> threads;
  for (int ith = 0; ith < nth; ++ith) {
    threads.emplace_back([&, ith] {
      const auto i = static_cast<std::size_t>(ith);
      statuses[i] = part(ith, &reports[i]);
    });
  }
  for (std::thread& t : threads) t.join();
  DenominatorReport total;
  for (const DenominatorReport& r : reports) merge(total, r);
  for (const Status& s : statuses) EXPECT_TRUE(s.ok()) << s.message();
  return total;
}

/// What one run wrote, to tensors with gaps between their rows.
class Outputs {
 public:
  Outputs(const Geometry& g, ElementType type)
      : out_(type, shape(g, g.value_dim)), statistics_(3, ElementTensor(ElementType::float32, shape(g, 1))) {}

  template <class P>
  void receive(P& parameters) {
    parameters.out = out_.output();
    const auto view = [](ElementTensor& t) {
      const OutputView v = t.output();
      return TensorView<float>{static_cast<float*>(v.data),
                               v.batch,
                               v.tokens,
                               v.heads,
                               v.dim,
                               v.batch_stride,
                               v.token_stride,
                               v.head_stride};
    };
    parameters.statistics = {view(statistics_[0]), view(statistics_[1]), view(statistics_[2])};
  }

  void expect_equal(const Outputs& expected) const {
    EXPECT_TRUE(bit_equal(out_.values(), expected.out_.values()));
    EXPECT_TRUE(out_.gaps_untouched());
    for (std::size_t i = 0; i < statistics_.size(); ++i) {
      EXPECT_TRUE(bit_equal(statistics_[i].values(), expected.statistics_[i].values())) << "statistics " << i;
      EXPECT_TRUE(statistics_[i].gaps_untouched());
    }
    EXPECT_EQ(report.smallest, expected.report.smallest);
    EXPECT_EQ(report.smallest_magnitude, expected.report.smallest_magnitude);
    EXPECT_EQ(report.nan_count, expected.report.nan_count);
  }

  DenominatorReport report = {};

 private:
  static InputView shape(const Geometry& g, std::int64_t dim) {
    return TensorView<const float>::token_major(nullptr, g.batch, g.tokens(), g.heads(), dim);
  }

  ElementTensor out_;
  std::vector<ElementTensor> statistics_;
};

/// A random clip, its tensors of random types with gaps between rows; the weights of polynomial maps packed
/// or not.
class Case {
 public:
  explicit Case(Random& random)
      : clip_(make_clip(random)), types_(ElementTypes::random(random)), inputs_(clip_, types_) {
    if (clip_.phi_q.kind == FeatureMap::Kind::polynomial && random.coin()) {
      pack(clip_.phi_q, packed_q_);
      pack(clip_.phi_k, packed_k_);
    }
  }

  const TestClip& clip() const { return clip_; }
  Outputs outputs() const { return Outputs(clip_.geometry, types_.out); }
  template <class P>
  void feed(P& parameters) const {
    inputs_.feed(parameters);
  }
  RecurrentConfig recurrent(RecurrentSchedule schedule) const {
    RecurrentConfig config = clip_.recurrent(schedule);
    config.tail_type = types_.tail();
    return config;
  }

 private:
  static TestClip make_clip(Random& random) {
    Geometry g = Geometry::random(random);
    g.batch = random.integer(1, 3), g.kv_heads = random.integer(1, 3);
    return TestClip::random(random, g);
  }

  void pack(FeatureMap& map, std::vector<char>& memory) const {
    memory.resize(*packed_weights_size(map, clip_.geometry.dim));
    map = *pack_weights(map, clip_.geometry.dim, {memory.data(), memory.size()});
  }

  TestClip clip_;
  ElementTypes types_;
  TypedInputs inputs_;
  std::vector<char> packed_q_, packed_k_;
};

class OnePhaseTest : public support::IsaTest {
 protected:
  template <class P>
  Outputs ordinary(const Case& c, P parameters) const {
    Outputs written = c.outputs();
    written.receive(parameters);
    parameters.report = &written.report;
    support::run(parameters, kernels());
    return written;
  }

  /// With a workspace of exactly the size asked for.
  template <class P>
  Outputs one_phase_of(const Case& c, P parameters, int nth) const {
    Outputs written = c.outputs();
    written.receive(parameters);
    const Result<std::size_t> size = one_phase_workspace_size(parameters, nth, kernels());
    EXPECT_TRUE(size.ok()) << size.status().message();
    if (!size.ok()) return written;
    NanWorkspace workspace(*size);
    written.report = run_threads(nth, [&](int ith, DenominatorReport* report) {
      return one_phase(parameters, workspace.get(), ith, nth, report, kernels());
    });
    return written;
  }

  /// Every chunk of the clip; some are peeked and committed, some stepped. `ordinary` or on nth threads.
  Outputs streamed(const Case& c, OwnedState& state, int nth) const {
    Outputs written = c.outputs();
    RecurrentChunk whole;
    c.feed(whole);
    written.receive(whole);
    ClipStream chunks(c.clip(), whole);
    const RecurrentConfig& config = state->config();
    NanWorkspace workspace(*one_phase_workspace_size(config, nth, kernels()));
    const auto advance = [&](const RecurrentChunk& chunk, auto operation) {
      merge(written.report, run_threads(nth, [&](int ith, DenominatorReport* report) {
              return operation(chunk, workspace.get(), ith, report);
            }));
    };
    for (std::int64_t t = 0; t < chunks.chunks(); ++t) {
      const RecurrentChunk chunk = chunks.chunk(t);
      if (t % 3 == 1) {
        advance(chunk, [&](const RecurrentChunk& now, Workspace w, int ith, DenominatorReport* report) {
          return one_phase_peek(*state, now, w, ith, nth, report, kernels());
        });
        advance(chunk, [&](const RecurrentChunk& now, Workspace w, int ith, DenominatorReport*) {
          return one_phase_commit(*state, now, w, ith, nth, kernels());
        });
      } else {
        advance(chunk, [&](const RecurrentChunk& now, Workspace w, int ith, DenominatorReport* report) {
          return one_phase_step(*state, now, w, ith, nth, report, kernels());
        });
      }
      const Status status = one_phase_finish(*state, chunk);
      EXPECT_TRUE(status.ok()) << status.message();
    }
    return written;
  }

  Outputs ordinarily_streamed(const Case& c, OwnedState& state) const {
    Outputs written = c.outputs();
    RecurrentChunk whole;
    c.feed(whole);
    written.receive(whole);
    ClipStream chunks(c.clip(), whole);
    SerialExecutor serial;
    for (std::int64_t t = 0; t < chunks.chunks(); ++t) {
      RecurrentChunk chunk = chunks.chunk(t);
      DenominatorReport report;
      chunk.report = &report;
      const Status status = state.step(chunk, serial);
      EXPECT_TRUE(status.ok()) << status.message();
      merge(written.report, report);
    }
    return written;
  }
};

TEST_P(OnePhaseTest, OperatorsGiveTheBitsOfTheOrdinaryCall) {
  for (const std::uint64_t seed : support::seeds(20)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const Case c(random);
    c.clip().for_each_operator([&](const char* name, auto parameters) {
      SCOPED_TRACE(name);
      c.feed(parameters);
      const Outputs expected = ordinary(c, parameters);
      for (const int nth : {1, 2, 3, 5, 8}) one_phase_of(c, parameters, nth).expect_equal(expected);
    });
  }
}

/// More keys than one group sums, and clips of more queries than one group of an ordinary call has.
TEST_P(OnePhaseTest, ManyTokens) {
  Random random(7);
  const TestClip clip(random,
                      {.frames = 4,
                       .tokens_per_frame = 410,
                       .chunk_frames = 2,
                       .overlap_frames = 1,
                       .kv_heads = 2,
                       .heads_per_kv = 2,
                       .dim = 4,
                       .value_dim = 4},
                      support::Features::elu1);
  clip.for_each_operator([&](const char* name, const auto& parameters) {
    const support::Written expected = support::evaluate(parameters, kernels());
    support::Written written = expected;
    std::fill(written.out.begin(), written.out.end(), support::untouched);
    auto p = parameters;
    written.receive(p);
    p.report = nullptr;
    NanWorkspace workspace(*one_phase_workspace_size(p, 2, kernels()));
    written.report = run_threads(2, [&](int ith, DenominatorReport* report) {
      return one_phase(p, workspace.get(), ith, 2, report, kernels());
    });
    EXPECT_TRUE(bit_equal(written, expected)) << name;
  });
}

TEST_P(OnePhaseTest, RecurrencesGiveTheBitsAndTheStateOfOrdinarySteps) {
  for (const std::uint64_t seed : support::seeds(16, 101)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const Case c(random);
    for (const RecurrentSchedule schedule : {RecurrentSchedule::hybrid, RecurrentSchedule::linear}) {
      const RecurrentConfig config = c.recurrent(schedule);
      OwnedState ordinary(config, 1, kernels());
      const Outputs expected = ordinarily_streamed(c, ordinary);
      for (const int nth : {1, 2, 3, 5, 8}) {
        SCOPED_TRACE(nth);
        OwnedState state(config, 1, kernels());
        streamed(c, state, nth).expect_equal(expected);
        ASSERT_EQ(state.memory().size(), ordinary.memory().size());
        EXPECT_EQ(std::memcmp(state.memory().data(), ordinary.memory().data(), state.memory().size() * 8), 0);
        for (std::int64_t b = 0; b < config.batch; ++b) {
          EXPECT_EQ(state->frames_seen(b), ordinary->frames_seen(b));
          EXPECT_EQ(state->finished(b), ordinary->finished(b));
        }
      }
    }
  }
}

REHYAT_TEST_ALL_ISAS(OnePhaseTest);

/// A clip of 2 entries and 3 kv heads, whose outputs show whether anybody wrote to them.
class OnePhaseRefusals : public testing::Test {
 protected:
  OnePhaseRefusals() : random_(1), clip_(random_, geometry, support::Features::elu1) {}

  template <class P>
  P receiving(P parameters) {
    written_.receive(parameters);
    parameters.report = nullptr;
    return parameters;
  }

  /// Threads 0 and 1 of `nth` refuse with the same code and words; nothing is written.
  template <class Call>
  void expect_refused(const Call& call, StatusCode code, const char* words) {
    DenominatorReport report{.smallest = -7, .smallest_magnitude = -7, .nan_count = -7};
    const Status first = call(0, &report), second = call(1, &report);
    EXPECT_EQ(first.code(), code) << words;
    EXPECT_NE(std::string(first.message()).find(words), std::string::npos) << first.message();
    EXPECT_STREQ(first.message(), second.message());
    EXPECT_EQ(report.nan_count, -7);
    for (const std::vector<float>* v : {&written_.out, &written_.row_max, &written_.row_sum}) {
      EXPECT_TRUE(std::all_of(v->begin(), v->end(), [](float x) { return x == support::untouched; }))
          << words;
    }
  }

  static constexpr Geometry geometry{.batch = 2, .kv_heads = 3, .heads_per_kv = 2};
  Random random_;
  TestClip clip_;
  support::Written written_{geometry.batch, geometry.tokens(), geometry.heads(), geometry.value_dim};
};

TEST_F(OnePhaseRefusals, OfOperators) {
  clip_.for_each_operator([&](const char* name, const auto& parameters) {
    SCOPED_TRACE(name);
    const auto good = receiving(parameters);
    const std::size_t size = *one_phase_workspace_size(good, 2);
    NanWorkspace workspace(size);
    const auto refuse = [&](const auto& p, Workspace w, StatusCode code, const char* words) {
      expect_refused([&](int ith, DenominatorReport* report) { return one_phase(p, w, ith, 2, report); },
                     code, words);
    };
    refuse(good, {workspace.get().data, size - 1}, StatusCode::workspace_too_small, "workspace.size");
    refuse(good, {nullptr, size}, StatusCode::invalid_argument, "workspace.data");
    auto bad = good;
    bad.report = &written_.report;
    refuse(bad, workspace.get(), StatusCode::invalid_argument, "each thread brings its own");
    bad = good;
    bad.k.heads = 4;
    refuse(bad, workspace.get(), StatusCode::invalid_argument, "k.heads is 4");
    EXPECT_FALSE(one_phase_workspace_size(bad, 2).ok());
    bad = good;
    bad.v.data = nullptr;
    refuse(bad, workspace.get(), StatusCode::invalid_argument, "v.data is null");
    for (const int ith : {-1, 2, 3}) {
      expect_refused([&](int, DenominatorReport* r) { return one_phase(good, workspace.get(), ith, 2, r); },
                     StatusCode::invalid_argument, "0 to nth - 1");
    }
    expect_refused([&](int ith, DenominatorReport* r) { return one_phase(good, workspace.get(), ith, 0, r); },
                   StatusCode::invalid_argument, "nth is 0");
    EXPECT_FALSE(one_phase_workspace_size(good, 0).ok());
  });
}

TEST_F(OnePhaseRefusals, OfRecurrences) {
  const RecurrentConfig config = clip_.recurrent(RecurrentSchedule::hybrid);
  OwnedState state(config, 1, default_kernels());
  const std::vector<double> before = state.memory();
  ClipStream chunks(clip_, written_);
  const RecurrentChunk good = [&] {
    RecurrentChunk chunk = chunks.chunk(0);
    chunk.report = nullptr;
    return chunk;
  }();
  const std::size_t size = *one_phase_workspace_size(config, 2);
  NanWorkspace workspace(size);
  const auto refuse = [&](const RecurrentChunk& chunk, Workspace w, int nth, StatusCode code,
                          const char* words) {
    expect_refused(
        [&](int ith, DenominatorReport* r) { return one_phase_step(*state, chunk, w, ith, nth, r); }, code,
        words);
    expect_refused(
        [&](int ith, DenominatorReport* r) { return one_phase_peek(*state, chunk, w, ith, nth, r); }, code,
        words);
    expect_refused([&](int ith, DenominatorReport*) { return one_phase_commit(*state, chunk, w, ith, nth); },
                   code, words);
  };
  refuse(good, {workspace.get().data, size - 1}, 2, StatusCode::workspace_too_small, "workspace.size");
  refuse(good, workspace.get(), 0, StatusCode::invalid_argument, "nth is 0");
  RecurrentChunk bad = good;
  bad.report = &written_.report;
  refuse(bad, workspace.get(), 2, StatusCode::invalid_argument, "each thread brings its own");
  bad = good;
  bad.v.heads = 4;
  refuse(bad, workspace.get(), 2, StatusCode::invalid_argument, "v.heads is 4");
  EXPECT_FALSE(one_phase_finish(*state, bad).ok());
  EXPECT_FALSE(one_phase_workspace_size(config, 0).ok());
  EXPECT_EQ(state.memory(), before);
}

/// Nothing behind the workspace is touched, at any address; more threads than tasks need no more memory.
TEST_F(OnePhaseRefusals, WorkspaceOfAnyAlignment) {
  clip_.for_each_operator([&](const char* name, const auto& parameters) {
    SCOPED_TRACE(name);
    const auto p = receiving(parameters);
    EXPECT_EQ(one_phase_tasks(p), 6);
    const std::size_t one = *one_phase_workspace_size(p, 1), six = *one_phase_workspace_size(p, 6);
    EXPECT_EQ(six - 64, 6 * (one - 64));
    EXPECT_EQ(*one_phase_workspace_size(p, 7), six);
    for (const std::size_t offset : std::initializer_list<std::size_t>{0, 1, 4, 63}) {
      constexpr unsigned char canary = 0xA5;
      std::vector<unsigned char> bytes(offset + six + 128, canary);
      const Workspace workspace{bytes.data() + offset, six};
      run_threads(8, [&](int ith, DenominatorReport*) { return one_phase(p, workspace, ith, 8); });
      const auto untouched = [&](auto begin, auto end) {
        return std::all_of(begin, end, [&](unsigned char byte) { return byte == canary; });
      };
      EXPECT_TRUE(untouched(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(offset)));
      EXPECT_TRUE(untouched(bytes.end() - 128, bytes.end()));
    }
  });
}

}  // namespace
}  // namespace rehyat
