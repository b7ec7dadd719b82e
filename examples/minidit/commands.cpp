#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "../cli/bad_input.hpp"
#include "attention.hpp"
#include "denoise.hpp"
#include "options.hpp"
#include "pictures.hpp"
#include "rehyat/io/npy.hpp"
#include "rehyat/thread_pool.hpp"

namespace rehyat::minidit {
namespace {

using cli::require;
using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string short_name(const std::string& path) { return std::filesystem::path(path).stem().string(); }

/// A file of weights, and all that is in it.
struct LoadedModel {
  explicit LoadedModel(const std::string& path)
      : file(require(TensorFile::read(path.c_str()), "--weights ")),
        model(file),
        basis(file, model.channels()) {}

  TensorFile file;
  Model model;
  PatchBasis basis;
};

/// How the layers attend if no option says so.
std::string default_attention(const TensorFile& weights) {
  const std::string* const stored = weights.metadata("attention");
  return stored == nullptr ? "softmax" : *stored;
}

AttentionPlan plan_of(const CommonOptions& o, const LoadedModel& loaded, const std::string& choice) {
  const Chunking chunking{.tokens_per_frame = loaded.basis.grid().tokens(),
                          .chunk_frames = o.chunk_frames,
                          .overlap_frames = o.overlap_frames};
  if (!o.phi) return make_plan(choice, loaded.model, loaded.file, chunking);
  return make_plan(choice, loaded.model, require(TensorFile::read(o.phi->c_str()), "--phi "), chunking);
}

/// Latents [frames * tokens, channels] of at least `least` frames that fit the model.
Matrix load_clip(const std::string& path, const LoadedModel& loaded, Index least) {
  const NpyArray array = require(read_npy(path.c_str()), "--latents ");
  const Index tokens = loaded.basis.grid().tokens(), channels = loaded.model.channels();
  if (array.rank != 3 || array.shape[0] < least || array.shape[1] != tokens || array.shape[2] != channels) {
    throw cli::BadInput("--latents " + path + ": shape " + detail::ShapeText(array.extents()).c_str() +
                        "; expected [" + std::to_string(least) + " or more frames, " +
                        std::to_string(tokens) + " tokens, " + std::to_string(channels) + " channels]");
  }
  return Eigen::Map<const Matrix>(array.data.data(), array.shape[0] * tokens, channels);
}

void print_json(const Json& json) {
  std::printf("%s\n", json.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}

Json denoise_row(const LoadedModel& loaded, const AttentionPlan& plan, const Matrix& clip, float noise_level,
                 std::uint64_t seed, ThreadPool& pool) {
  OneShotAttention attention(plan, pool);
  const Clock::time_point start = Clock::now();
  const DenoisingError error =
      denoising_error(loaded.model, clip, loaded.basis.grid(), noise_level, seed, attention, pool);
  return {{"x0_mse", error.predicted}, {"noisy_mse", error.noisy}, {"seconds", seconds_since(start)}};
}

void print_denoise_row(const Json& row, bool first) {
  if (first) {
    std::printf("%-24s %-32s %-12s noise   x0 mse  noisy mse  seconds\n", "weights", "attention", "clip");
  }
  std::printf("%-24s %-32s %-12s %5.2f  %7.4f  %9.4f  %7.2f\n", row["weights"].get<std::string>().c_str(),
              row["attention"].get<std::string>().c_str(), row["clip"].get<std::string>().c_str(),
              row["noise_level"].get<double>(), row["x0_mse"].get<double>(), row["noisy_mse"].get<double>(),
              row["seconds"].get<double>());
  std::fflush(stdout);
}

/// Pictures in PPM, one behind the other: a stream that tells its own size.
class PictureFile {
 public:
  explicit PictureFile(const std::string& path) : path_(path), file_(path, std::ios::binary) { check(); }

  void write(const Picture& picture) {
    file_ << "P6\n" << picture.width << ' ' << picture.height << "\n255\n";
    file_.write(reinterpret_cast<const char*>(picture.rgb.data()), std::ssize(picture.rgb));
    check();
  }
  void close() {
    file_.close();
    check();
  }

 private:
  void check() const {
    if (!file_) throw cli::BadInput("--out " + path_ + ": cannot be written");
  }

  std::string path_;
  std::ofstream file_;
};

Json memory_of_process() {
  struct rusage use = {};
  ::getrusage(RUSAGE_SELF, &use);
  return use.ru_maxrss * 1024;
}

}  // namespace

void denoise_command(const DenoiseOptions& o) {
  ThreadPool pool(o.threads);
  Json rows = Json::array();
  for (const std::string& weights : o.weights) {
    const LoadedModel loaded(weights);
    const std::vector<std::string> own = {default_attention(loaded.file)};
    for (const std::string& choice : o.attention.empty() ? own : o.attention) {
      const AttentionPlan plan = plan_of(o, loaded, choice);
      for (const std::string& path : o.clips) {
        const Matrix clip = load_clip(path, loaded, 2);
        for (const float noise_level : o.noise_levels) {
          Json row{{"weights", short_name(weights)},
                   {"attention", plan.text()},
                   {"clip", short_name(path)},
                   {"noise_level", noise_level}};
          row.update(denoise_row(loaded, plan, clip, noise_level, o.seed, pool));
          if (!o.json) print_denoise_row(row, rows.empty());
          rows.push_back(std::move(row));
        }
      }
    }
  }
  if (!o.json) return;
  print_json({{"chunk_frames", o.chunk_frames},
              {"overlap_frames", o.overlap_frames},
              {"seed", o.seed},
              {"threads", o.threads},
              {"rows", std::move(rows)}});
}

void sample_command(const SampleOptions& o) {
  ThreadPool pool(o.threads);
  const LoadedModel loaded(o.weights.front());
  const AttentionPlan plan =
      plan_of(o, loaded, o.attention.empty() ? default_attention(loaded.file) : o.attention.front());
  const Grid& grid = loaded.basis.grid();
  const Matrix given = load_clip(o.clip, loaded, 1).topRows(grid.tokens());
  Sampler sampler(loaded.model, plan, grid, o.settings, pool);
  PictureFile video(o.out);
  const Clock::time_point start = Clock::now();
  Json state_bytes = Json::array();
  for (Index frame = 0; frame < o.frames; frame += o.chunk_frames) {
    const Index frames = std::min(o.chunk_frames, o.frames - frame);
    const Matrix latents = sampler.next(frames, given);
    for (Index i = 0; i < frames; ++i) {
      video.write(loaded.basis.picture(latents.middleRows(i * grid.tokens(), grid.tokens())));
    }
    state_bytes.push_back(sampler.state_bytes());
    if (!o.json) {
      std::printf("\r%4ld of %ld frames, %.1f s, %zu bytes of state", static_cast<long>(frame + frames),
                  static_cast<long>(o.frames), seconds_since(start), sampler.state_bytes());
      std::fflush(stdout);
    }
  }
  video.close();
  if (!o.json) return void(std::printf("\n"));
  print_json({{"weights", short_name(o.weights.front())},
              {"attention", plan.text()},
              {"chunk_frames", o.chunk_frames},
              {"overlap_frames", o.overlap_frames},
              {"context_frames", o.settings.context_frames},
              {"frames", o.frames},
              {"steps", o.settings.steps},
              {"seed", o.settings.seed},
              {"threads", o.threads},
              {"seconds", seconds_since(start)},
              {"state_bytes_after_chunk", std::move(state_bytes)},
              {"peak_memory_bytes", memory_of_process()}});
}

}  // namespace rehyat::minidit
