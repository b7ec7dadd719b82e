// The peer Eigen: plain quadratic attention, a head a thread, head-major. Stores the N x N scores of a head,
// once a thread.

#include <Eigen/Core>
#include <cmath>
#include <cstddef>
#include <string>

#include "../eigen_quadratic.hpp"
#include "server.hpp"

namespace rehyat::bench {
namespace {

std::string eigen_version() {
  const auto number = [](int n) { return std::to_string(n); };
  return number(EIGEN_WORLD_VERSION) + "." + number(EIGEN_MAJOR_VERSION) + "." + number(EIGEN_MINOR_VERSION);
}

/// Heads at work at the same time.
std::int64_t heads_at_once(const Clip& clip, const Call& call) {
  return std::min<std::int64_t>(call.threads, clip.heads);
}

double quadratic_bytes(const Clip& clip, const Call& call) {
  const double tokens = static_cast<double>(clip.tokens());
  return tokens * tokens * sizeof(float) * static_cast<double>(heads_at_once(clip, call));
}

class EigenPeer final : public Peer {
 public:
  EigenPeer(const Clip& clip, const Call& call)
      : clip_(&clip), pool_(static_cast<int>(heads_at_once(clip, call))) {
    out_.resize(static_cast<std::size_t>(clip.heads * clip.head_size()));
    weights_.resize(static_cast<std::size_t>(pool_.slots()));
    for (auto& w : weights_) w.resize(static_cast<std::size_t>(clip.tokens() * clip.tokens()));
  }

  void run() override {
    const auto task = [&](std::int64_t h, int slot) {
      head_({.q = clip_->head(clip_->q, h),
             .k = clip_->head(clip_->k, h),
             .v = clip_->head(clip_->v, h),
             .out = out_.data() + h * clip_->head_size(),
             .tokens = clip_->tokens(),
             .head_dim = clip_->head_dim,
             .value_dim = clip_->head_dim,
             .scale = 1 / std::sqrt(static_cast<float>(clip_->head_dim)),
             .weights = weights_[static_cast<std::size_t>(slot)].data()});
    };
    pool_.run(clip_->heads, task);
  }
  std::vector<float> output() override { return out_; }
  nlohmann::json about() const override {
    return {
        {"version", eigen_version()}, {"isa", isa_name(default_kernels().isa)}, {"arithmetic", "float32"}};
  }

 private:
  const Clip* clip_;
  ThreadPool pool_;
  void (*head_)(const QuadraticHead&) = eigen_quadratic(default_kernels().isa);
  std::vector<float> out_;
  std::vector<std::vector<float>> weights_;
};

std::unique_ptr<Peer> prepare(const Clip& clip, const Call& call) {
  return std::make_unique<EigenPeer>(clip, call);
}

}  // namespace
}  // namespace rehyat::bench

int main(int argc, char** argv) {
  using namespace rehyat::bench;
  return serve(argc, argv, {quadratic_bytes, prepare});
}
