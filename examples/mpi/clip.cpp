#include "clip.hpp"

#include <climits>
#include <cmath>
#include <random>
#include <stdexcept>
#include <utility>

namespace rehyat::mpi {
namespace {

std::int64_t or_else(std::int64_t size, std::int64_t otherwise) { return size == 0 ? otherwise : size; }

std::vector<float> normals(std::int64_t count, std::uint32_t seed, double mean, double deviation) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> distribution(static_cast<float>(mean), static_cast<float>(deviation));
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& x : values) x = distribution(engine);
  return values;
}

/// One .npy file whose first extents must be those of `like`, -1 standing for any.
NpyArray read(const std::string& path, std::initializer_list<std::int64_t> like) {
  Result<NpyArray> array = read_npy(path.c_str());
  if (!array.ok()) throw std::runtime_error(array.status().message());
  const auto refuse = [&](const std::string& expected) {
    throw std::runtime_error(path + " has shape " + detail::ShapeText(array->extents()).c_str() +
                             ", expected " + expected);
  };
  if (array->rank != 4) refuse("[frames, tokens, heads, dim]");
  int i = 0;
  for (const std::int64_t extent : like) {
    if (array->shape[i] < 1) refuse("nothing empty");
    if (extent >= 0 && array->shape[i] != extent)
      refuse(std::to_string(extent) + " as extent " + std::to_string(i) + ", like the others");
    ++i;
  }
  return std::move(*array);
}

}  // namespace

ClipFiles read_files(Options& o) {
  ClipFiles files;
  files.q = read(o.q, {-1, -1, -1, -1});
  const std::int64_t* q = files.q.shape;
  files.k = read(o.k, {q[0], q[1], -1, q[3]});
  files.v = read(o.v, {q[0], q[1], files.k.shape[2], -1});
  o.frames = q[0], o.tokens = q[1], o.heads = q[2], o.head_dim = q[3], o.batch = 1;
  o.kv_heads = files.v.shape[2], o.value_dim = files.v.shape[3];
  return files;
}

void fill_random(RankTensors& clip, std::uint32_t seed) {
  for (FrameTensor* tensor : {&clip.q, &clip.k, &clip.v})
    tensor->data = normals(static_cast<std::int64_t>(tensor->data.size()), seed++, 0, 1);
}

FeatureMap FeatureMaps::random_map(const Options& o, std::int64_t heads, std::uint32_t seed) {
  FeatureMap map;
  map.kind = FeatureMap::Kind::polynomial;
  map.num_layers = map.degree = 2;
  map.output_activation = Activation::softplus;
  map.heads = heads;
  const auto own = [&](std::vector<float> values) { return random_.emplace_back(std::move(values)).data(); };
  std::int64_t in_dim = o.head_dim;
  for (std::uint32_t i = 0; i < 2; ++i) {
    const double deviation = 1 / std::sqrt(static_cast<double>(in_dim));
    // a last bias of -4 keeps single linear keys quiet: there are many of them
    map.layers[i] = {own(normals(heads * o.feature_dim * in_dim, seed + i, 0, deviation)),
                     own(normals(heads * o.feature_dim, seed + 10 + i, i == 1 ? -4 : 0, 0.1)), o.feature_dim};
    in_dim = o.feature_dim;
  }
  return map;
}

FeatureMaps::FeatureMaps(const Options& o) {
  const std::int64_t kv_heads = or_else(o.kv_heads, o.heads);
  if (o.phi.empty()) {
    phi_q = random_map(o, o.heads, o.seed + 100);
    phi_k = random_map(o, kv_heads, o.seed + 200);
    return;
  }
  Result<FeatureMapWeights> read = read_feature_maps(o.phi.c_str(), {o.heads, kv_heads, o.head_dim});
  if (!read.ok()) throw std::runtime_error(read.status().message());
  stored_ = std::move(*read);
  phi_q = stored_->phi_q, phi_k = stored_->phi_k;
}

RecurrentConfig config_of(const Options& o, const FeatureMaps& maps) {
  const RecurrentConfig config{.batch = o.batch,
                               .heads = o.heads,
                               .kv_heads = or_else(o.kv_heads, o.heads),
                               .head_dim = o.head_dim,
                               .value_dim = or_else(o.value_dim, o.head_dim),
                               .chunking = {o.tokens, o.chunk_frames, o.overlap_frames},
                               .phi_q = maps.phi_q,
                               .phi_k = maps.phi_k};
  const Status status = RecurrentState::size_bytes(config).status();
  if (!status.ok()) throw std::runtime_error(status.message());
  const std::int64_t frame = o.tokens * o.batch * o.heads * std::max(config.head_dim, config.value_dim);
  if (frame > INT_MAX)  // MPI counts them in int
    throw std::runtime_error("a frame of q has " + std::to_string(frame) +
                             " numbers, expected fewer than 2^31");
  return config;
}

}  // namespace rehyat::mpi
