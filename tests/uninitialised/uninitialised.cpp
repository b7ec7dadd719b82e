// No result depends on memory that nobody wrote: workspace, packed weights, and the part of a state's tail
// that holds no frame yet.
//
// Everything is computed in zeroed memory, then in memory full of other values, and compared to the bit. With
// --undefined that memory is left as malloc gives it, for tools that follow undefined bytes until something
// is decided by them: MemorySanitizer (REHYAT_SANITIZE=memory) and valgrind (valgrind.sh). GoogleTest's
// library is not linked: it is not built for MemorySanitizer.

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "rehyat/io/state_file.hpp"
#include "rehyat/packed_weights.hpp"
#include "support/clip_stream.hpp"
#include "support/executors.hpp"
#include "support/test_clip.hpp"
#include "support/typed_clip.hpp"

namespace rehyat {
namespace {

using support::Features;
using support::Geometry;
using support::Random;
using support::TestClip;
using support::Written;

/// A word to fill memory with; none: what malloc gives.
using Fill = std::optional<std::uint32_t>;
constexpr Fill zeros = 0u, undefined = std::nullopt;
constexpr Fill wrong_values[] = {0x7fa5c3e1u /* NaN */, 0xff800000u /* -inf */,
                                 0x7f7fffffu /* the largest */};

class Memory {
 public:
  Memory(std::size_t bytes, Fill fill) : data_(std::malloc(bytes + 8)), bytes_(bytes) {
    if (data_ == nullptr) std::abort();
    const std::span<std::uint32_t> words(static_cast<std::uint32_t*>(data_), bytes / 4 + 2);
    if (fill) std::fill(words.begin(), words.end(), *fill);
  }
  ~Memory() { std::free(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void* data() { return data_; }
  Workspace workspace() { return {data_, bytes_}; }

 private:
  void* data_;
  std::size_t bytes_;
};

/// Ends the program where a call is refused.
void require(const Status& status) {
  if (status.ok()) return;
  std::printf("refused: %s\n", status.message());
  std::exit(1);
}

/// What one clip gives: outputs of all operators and recurrences, and the bytes of saved states.
struct Results {
  std::vector<Written> written;
  std::vector<std::vector<std::byte>> files;

  /// Every value takes part in a decision.
  bool operator==(const Results& other) const {
    const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
      return !support::first_bit_difference(a, b);
    };
    for (std::size_t i = 0; i < written.size(); ++i) {
      const Written &a = written[i], &b = other.written[i];
      const bool equal = same(a.out, b.out) && same(a.row_max, b.row_max) && same(a.row_sum, b.row_sum) &&
                         same(a.linear_denominator, b.linear_denominator) &&
                         a.report.smallest == b.report.smallest && a.report.nan_count == b.report.nan_count &&
                         a.report.smallest_magnitude == b.report.smallest_magnitude;
      if (!equal) return std::printf("operator %zu: ", i), false;
    }
    return files == other.files;
  }
};

class Run {
 public:
  Run(const TestClip& clip, const support::ElementTypes& types, const Kernels& kernels, Fill fill)
      : clip_(clip),
        types_(types),
        inputs_(clip, types),
        kernels_(kernels),
        fill_(fill),
        packed_memory_q_(packed_size(clip.phi_q), fill),
        packed_memory_k_(packed_size(clip.phi_k), fill),
        phi_q_(packed(clip.phi_q, packed_memory_q_)),
        phi_k_(packed(clip.phi_k, packed_memory_k_)) {}

  Results all() {
    clip_.for_each_operator([&](const char*, auto parameters) { one_shot(parameters); });
    for (const RecurrentSchedule schedule : {RecurrentSchedule::hybrid, RecurrentSchedule::linear})
      stream(schedule);
    return std::move(results_);
  }

 private:
  std::size_t packed_size(const FeatureMap& map) const {
    const Result<std::size_t> size = packed_weights_size(map, clip_.geometry.dim);
    return size.ok() ? *size : 0;
  }
  FeatureMap packed(const FeatureMap& map, Memory& memory) const {
    const Result<FeatureMap> result = pack_weights(map, clip_.geometry.dim, memory.workspace());
    return result.ok() ? *result : map;
  }

  Written& fresh() {
    const Geometry& g = clip_.geometry;
    return results_.written.emplace_back(g.batch, g.tokens(), g.heads(), g.value_dim);
  }

  template <class P>
  void one_shot(P& p) {
    if constexpr (requires { p.phi_q; }) p.phi_q = phi_q_, p.phi_k = phi_k_;
    inputs_.feed(p);
    fresh().receive(p);
    Memory workspace(*workspace_size(p, executor_.slots(), kernels_), fill_);
    require(support::call(p, workspace.workspace(), executor_, kernels_));
  }

  /// An empty state, its tail as if never written.
  RecurrentState create(const RecurrentConfig& config, Memory& memory) {
    const Workspace all = memory.workspace();
    RecurrentState state = *RecurrentState::create(config, all.data, all.size);
    const detail::StateMemory layout(config, static_cast<char*>(all.data));
    const std::size_t tail =
        static_cast<std::size_t>(layout.layout().entry - layout.layout().k) * sizeof(float);
    Memory unwritten(tail, fill_);
    for (std::int64_t b = 0; b < config.batch; ++b) {
      std::memcpy(layout.entry(b) + layout.layout().k, unwritten.data(), tail);
    }
    return state;
  }

  /// Steps, peeks and commits by turns, each chunk in a copy of the state that saw the one before.
  void stream(RecurrentSchedule schedule) {
    RecurrentConfig config = clip_.recurrent(schedule);
    config.phi_q = phi_q_, config.phi_k = phi_k_;
    config.tail_type = types_.tail();
    const std::size_t size = *RecurrentState::size_bytes(config);
    Memory memory[2] = {{size, fill_}, {size, fill_}};
    RecurrentState states[2] = {create(config, memory[0]), create(config, memory[1])};
    Memory bytes(*RecurrentState::workspace_size(config, executor_.slots(), kernels_), fill_);
    const Workspace workspace = bytes.workspace();
    RecurrentChunk whole;
    inputs_.feed(whole);
    fresh().receive(whole);
    support::ClipStream chunks(clip_, whole);
    for (std::int64_t t = 0; t < chunks.chunks(); ++t) {
      RecurrentState &state = states[t % 2], &next = states[(t + 1) % 2];
      const RecurrentChunk chunk = chunks.chunk(t);
      if (t % 3 == 0) {
        require(state.step(chunk, workspace, executor_, kernels_));
      } else {
        require(state.peek(chunk, workspace, executor_, kernels_));
        require(state.commit(chunk, workspace, executor_, kernels_));
      }
      std::vector<std::byte>& file = results_.files.emplace_back(state_file_size(state));
      require(save_state(state, file));
      require(next.copy_from(state));
    }
  }

  const TestClip& clip_;
  const support::ElementTypes types_;
  const support::TypedInputs inputs_;
  const Kernels& kernels_;
  const Fill fill_;
  support::Shuffling executor_{1};
  Memory packed_memory_q_, packed_memory_k_;
  FeatureMap phi_q_, phi_k_;
  Results results_;
};

struct Options {
  bool undefined = false;
  std::int64_t seeds = 20;
  std::string_view isa = "";  ///< all that there are
};

bool parse(std::span<char*> arguments, Options& options) {
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    const std::string_view name = arguments[i];
    if (name == "--undefined") {
      options.undefined = true;
      continue;
    }
    if (++i == arguments.size()) return false;
    const std::string_view value = arguments[i];
    if (name == "--isa") {
      options.isa = value;
    } else if (name != "--seeds" ||
               std::from_chars(value.begin(), value.end(), options.seeds).ptr != value.end()) {
      return false;
    }
  }
  return true;
}

/// False, and a line, if any result depends on what memory held before.
bool independent(const char* name, std::uint64_t seed, const TestClip& clip, const Kernels& kernels,
                 const Options& options) {
  Random random(seed);
  const auto types = support::ElementTypes::random(random);
  const Results expected = Run(clip, types, kernels, zeros).all();
  if (options.undefined) return Run(clip, types, kernels, undefined).all() == expected;
  for (const Fill fill : wrong_values) {
    if (Run(clip, types, kernels, fill).all() == expected) continue;
    std::printf("%s clip %llu on %s depends on what memory held before (%08x)\n", name,
                static_cast<unsigned long long>(seed), isa_name(kernels.isa), *fill);
    return false;
  }
  return true;
}

/// Random clips, sums cut into groups of keys and slices of elements, heads of the largest size.
bool all_clips_independent(const Kernels& kernels, const Options& options) {
  bool ok = true;
  for (std::uint64_t seed = 1; seed <= static_cast<std::uint64_t>(options.seeds); ++seed) {
    Random random(seed);
    ok &= independent("random", seed, TestClip::random(random, Geometry::random(random)), kernels, options);
  }
  Random random(1);
  const Geometry many_keys{
      .frames = 4, .tokens_per_frame = 400, .chunk_frames = 2, .overlap_frames = 1, .dim = 2, .value_dim = 2};
  const Geometry wide_sums{.tokens_per_frame = 6, .dim = 4, .value_dim = 130, .given_dim = 260};
  const Geometry wide_heads{
      .frames = 2, .tokens_per_frame = 2, .chunk_frames = 1, .dim = 512, .value_dim = 512};
  ok &= independent("many keys", 1, TestClip(random, many_keys, Features::elu1), kernels, options);
  ok &= independent("wide sums", 1, TestClip(random, wide_sums, Features::given_separate), kernels, options);
  ok &= independent("wide heads", 1, TestClip(random, wide_heads, Features::relu), kernels, options);
  return ok;
}

}  // namespace
}  // namespace rehyat

int main(int count, char** arguments) {
  using namespace rehyat;
  Options options;
  if (!parse({arguments, static_cast<std::size_t>(count)}, options)) {
    std::fputs("rehyat_uninitialised [--undefined] [--isa NAME] [--seeds N]\n", stderr);
    return 2;
  }
  bool ok = true, any = false;
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512, Isa::neon}) {
    if (!available(isa) || (options.isa != "" && options.isa != isa_name(isa))) continue;
    any = true;
    std::printf("%s\n", isa_name(isa));
    std::fflush(stdout);
    ok &= all_clips_independent(**find_kernels(isa_name(isa)), options);
  }
  if (!any)
    std::printf("no instruction set \"%.*s\" here\n", static_cast<int>(options.isa.size()),
                options.isa.data());
  return ok && any ? 0 : 1;
}
