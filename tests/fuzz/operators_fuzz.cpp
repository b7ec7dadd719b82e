// Every operator on any arguments: refused before anything is written, or the same bits as from packed
// tensors on one thread, near the double reference if in float32, and chunk by chunk the same again.

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "agreement.hpp"
#include "byte_reader.hpp"
#include "case_description.hpp"
#include "choose_clip.hpp"
#include "describe.hpp"
#include "operator_memory.hpp"
#include "recurrence.hpp"
#include "rehyat/arithmetic.hpp"
#include "rehyat/rehyat.hpp"
#include "spoil.hpp"
#include "support/executors.hpp"
#include "support/isas.hpp"
#include "support/run.hpp"

namespace rehyat::fuzz {
namespace {

/// What is accepted but wants more than this is only asked about.
constexpr std::size_t most_memory = std::size_t{1} << 24;

/// An executor without a worker, which is to be refused.
struct Absent {
  int workers = 0;
  int slots() const { return workers; }
  void run(std::int64_t, TaskRef) const { ADD_FAILURE() << "a task was handed to " << workers << " workers"; }
};

template <class F>
void with_executor(ByteReader& bytes, F use) {
  static ThreadPool two(2), three(3);
  SerialExecutor serial;
  support::Wasteful wasteful;
  support::Shuffling shuffling(1);
  Absent absent{-1};
  switch (bytes.integer(0, 15)) {
    case 0:
      return use(serial);
    case 1:
      return use(wasteful);
    case 2:
      return use(absent);
    case 3:
    case 4:
    case 5:
      return use(two);
    case 6:
    case 7:
    case 8:
      return use(three);
    default:
      return use(shuffling);
  }
}

const Kernels& choose_kernels(ByteReader& bytes) {
  static const std::vector<Isa> isas = support::tested_isas();
  const std::int64_t which = bytes.integer(0, static_cast<std::int64_t>(isas.size()) - 1);
  return **find_kernels(isa_name(isas[static_cast<std::size_t>(which)]));
}

/// One call of a one-shot operator and all that is to be said about it.
template <class P>
class OneShotCase {
 public:
  OneShotCase(ByteReader& bytes, const P& packed)
      : bytes_(bytes),
        kernels_(choose_kernels(bytes)),
        types_(InputTypes::choose(bytes)),
        packed_(packed),
        strided_(memory_.lay_out(bytes, packed_, types_, false)) {
    for (auto* counts : counts_of(strided_)) *counts = memory_.exact(*counts);
    rows_ = strided_;
    memory_.repack(bytes, strided_);
    if (bytes.one_in(4)) spoil_all();
    if (bytes.one_in(4)) choose_arithmetic();
  }

  void run() {
    const CaseDescription description(
        [this] { return isa_name(kernels_.isa) + describe(strided_, !spoiled_); });
    with_executor(bytes_, [&](ExecutorRef executor) { run_on(executor); });
  }

 private:
  /// Another arithmetic is held to all but the reference: what it may cost depends on the numbers.
  void choose_arithmetic() {
    if constexpr (requires { packed_.arithmetic; }) {
      const Arithmetic arithmetic = bytes_.one_in(2) ? Arithmetic::float16 : Arithmetic::int8;
      if (spoiled_ || !has_arithmetic(kernels_, arithmetic)) return;
      packed_.arithmetic = strided_.arithmetic = rows_.arithmetic = arithmetic;
      is_float32_ = false;
    }
  }

  void spoil_all() {
    spoiled_ = true;
    for (std::int64_t i = bytes_.integer(1, 2); i > 0; --i)
      other_weights_ |= spoil(bytes_, memory_, strided_);
    const P maps = rows_;
    rows_ = strided_;
    if constexpr (requires { maps.phi_q; }) rows_.phi_q = maps.phi_q, rows_.phi_k = maps.phi_k;
  }

  void run_on(ExecutorRef executor) {
    const int slots = executor.slots();
    const Result<std::size_t> size = workspace_size(strided_, slots, kernels_);
    if (!size.ok()) return expect_refused(executor, size.status(), std::size_t{1} << 16);
    EXPECT_GE(slots, 1);
    if (spoiled_ && (other_weights_ || *size > most_memory || !memory_.holds(strided_))) return;
    // The size can be asked for before tensors have memory; a call needs it.
    if (const Status memory = detail::check_data(detail::problem_of(strided_)); !memory.ok()) {
      return expect_refused(executor, memory, *size);
    }
    if (bytes_.one_in(8) && *size > 0) {
      expect_refused(executor, Status::error(StatusCode::workspace_too_small, "%s", ""), *size - 1);
    }
    ExactBytes workspace(*size, static_cast<std::size_t>(bytes_.integer(0, 15)));
    const Status status = support::call(strided_, workspace.workspace(), executor, kernels_);
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_TRUE(memory_.inputs_unchanged());
    EXPECT_TRUE(memory_.outputs_unchanged_outside(strided_, ValidTokens::of(strided_)));
    if (spoiled_) return expect_reference(rows_, strided_);
    support::Written plain = support::evaluate(packed_, kernels_);
    P reported = packed_;
    plain.receive(reported);
    if (is_float32_) expect_reference(packed_, reported);
    expect_same_bits(plain);
    if (is_float32_) expect_rest_as_without_nonfinite(plain);
    run_recurrence(plain, executor);
  }

  /// The call ends as the size query did, and nothing is written.
  void expect_refused(ExecutorRef executor, const Status& expected, std::size_t size) {
    ExactBytes workspace(size);
    const DenominatorReport before = memory_.report;
    const Status status = support::call(strided_, workspace.workspace(), executor, kernels_);
    EXPECT_EQ(status.code(), expected.code()) << status.message();
    const std::string_view message = status.message();
    EXPECT_TRUE(!message.empty() && message.find('\n') == std::string_view::npos) << message;
    EXPECT_TRUE(memory_.outputs_unchanged()) << message;
    EXPECT_TRUE(memory_.inputs_unchanged()) << message;
    EXPECT_EQ(std::memcmp(&before, &memory_.report, sizeof before), 0) << message;
  }

  /// `inputs` have their weights in rows, as the reference reads them; `outputs` were written.
  void expect_reference(const P& inputs, const P& outputs) {
    const ValidTokens valid = ValidTokens::of(inputs);
    for (std::int64_t b = 0; b < inputs.q.batch; ++b) {
      SCOPED_TRACE(testing::Message() << isa_name(kernels_.isa) << ", entry " << b);
      expect_agreement(reference::case_of(inputs, b),
                       entry_output(outputs, b, valid.counts[static_cast<std::size_t>(b)]));
    }
  }

  /// The same bits whatever the strides, the alignment, the weights' layout and the executor.
  void expect_same_bits(const support::Written& plain) {
    const ValidTokens valid = ValidTokens::of(packed_);
    const auto expect_same = [&](const auto& view, const std::vector<float>& all) {
      expect_rows(view, all, packed_.q.tokens, valid, [](std::int64_t) { return 0; });
    };
    expect_same(strided_.out, plain.out);
    expect_same(strided_.statistics.row_max, plain.row_max);
    expect_same(strided_.statistics.row_sum, plain.row_sum);
    expect_same(strided_.statistics.linear_denominator, plain.linear_denominator);
    if (strided_.report == nullptr) return;
    const DenominatorReport &a = memory_.report, &b = plain.report;
    EXPECT_TRUE(a.smallest == b.smallest && a.smallest_magnitude == b.smallest_magnitude &&
                a.nan_count == b.nan_count);
  }

  /// NaN and infinities change nothing but what they reach, to the bit. With Stabilizer::none a channel may
  /// decide the shift of its row, so there only rows are left alone.
  void expect_rest_as_without_nonfinite(const support::Written& with) {
    P clean = packed_;
    std::vector<std::vector<float>> values;
    bool any = false;
    for_each_input(clean, [&](InputView& view) {
      if (view.data == nullptr) return;
      const std::int64_t count = view.batch * view.tokens * view.heads * view.dim;
      const float* const data = static_cast<const float*>(view.data);
      std::vector<float>& copy = values.emplace_back(data, data + count);
      for (float& x : copy) {
        if (!std::isfinite(x)) x = 0.5f, any = true;
      }
      view.data = copy.data();
    });
    if (!any) return;
    const support::Written without = support::evaluate(clean, kernels_);
    bool by_channel = true;
    if constexpr (requires { packed_.stabilizer; }) by_channel = packed_.stabilizer == Stabilizer::row_max;
    const std::int64_t dim = packed_.v.dim, row_stride = packed_.q.heads * dim;
    for (std::int64_t b = 0; b < packed_.q.batch; ++b) {
      const reference::Array<char> reached = reached_by_nonfinite(reference::case_of(packed_, b));
      const std::int64_t first = b * packed_.q.tokens * row_stride;
      for (std::int64_t e = 0; e < static_cast<std::int64_t>(reached.values.size()); ++e) {
        const char* const row = reached.values.data() + e / dim * dim;
        if (by_channel ? row[e % dim] != 0 : std::any_of(row, row + dim, [](char r) { return r != 0; }))
          continue;
        const std::size_t i = static_cast<std::size_t>(first + e);
        EXPECT_TRUE(same_number(static_cast<double>(with.out[i]), static_cast<double>(without.out[i])))
            << "element " << i << " is " << with.out[i] << ", but " << without.out[i]
            << " without what does not reach it";
      }
    }
  }

  void run_recurrence(const support::Written& plain, ExecutorRef executor) {
    if constexpr (requires { packed_.direction; }) {
      // a step hands out as many tasks as a chunk of the declared length needs
      if (packed_.direction != Direction::causal || packed_.chunking.chunk_frames == far) return;
      RecurrentConfig config = config_of(packed_, types_);
      const Result<std::size_t> size = RecurrentState::size_bytes(config);
      if (!size.ok() || *size > most_memory) return;
      const Result<std::size_t> workspace =
          RecurrentState::workspace_size(config, executor.slots(), kernels_);
      if (!workspace.ok() || *workspace > most_memory) return;
      Recurrence<P>(bytes_, packed_, types_, plain, executor, kernels_).run();
      spoil(bytes_, memory_, config);
      if (RecurrentState::size_bytes(config).ok()) {
        EXPECT_TRUE(RecurrentState::workspace_size(config, executor.slots(), kernels_).ok());
      }
    }
  }

  ByteReader& bytes_;
  const Kernels& kernels_;
  OperatorMemory memory_;
  InputTypes types_;
  P packed_;   ///< float32, token-major, weights in rows
  P strided_;  ///< the call
  P rows_;     ///< as strided_, weights in rows: what the reference reads
  bool spoiled_ = false, other_weights_ = false, is_float32_ = true;
};

template <class P>
void run_case(ByteReader& bytes, const P& packed) {
  OneShotCase<P>(bytes, packed).run();
}

/// Fewer queries than keys, from anywhere in the clip.
SoftmaxAttention cross_attention(ByteReader& bytes, const support::TestClip& clip,
                                 std::vector<std::int64_t>& counts) {
  SoftmaxAttention p = clip.softmax();
  const std::int64_t begin = bytes.integer(0, p.q.tokens), count = bytes.integer(0, p.q.tokens - begin);
  p.q = p.q.slice_tokens(begin, count);
  if (!p.query_tokens.empty()) {
    for (const std::int64_t n : clip.tokens) counts.push_back(std::min(n, count));
    p.query_tokens = counts;
  }
  return p;
}

void run_any(ByteReader& bytes) {
  const std::int64_t which = bytes.integer(0, 7);
  const support::TestClip clip = choose_clip(bytes);
  std::vector<std::int64_t> counts;
  switch (which) {
    case 0:
    case 1:
      return run_case(bytes, clip.hybrid(Direction::causal));
    case 2:
      return run_case(bytes, clip.hybrid(Direction::bidirectional));
    case 3:
      return run_case(bytes, clip.linear(Direction::causal));
    case 4:
      return run_case(bytes, clip.linear(Direction::bidirectional));
    case 5:
      return run_case(bytes, clip.uniform());
    case 6:
      return run_case(bytes, clip.softmax());
    default:
      return run_case(bytes, cross_attention(bytes, clip, counts));
  }
}

}  // namespace
}  // namespace rehyat::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  rehyat::fuzz::ByteReader bytes({data, size});
  rehyat::fuzz::run_any(bytes);
  return 0;
}
