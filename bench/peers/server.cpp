#include "server.hpp"

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <stdexcept>

#include "../peak.hpp"

namespace rehyat::bench {
namespace {

nlohmann::json read_geometry(const std::string& folder) {
  std::ifstream file(folder + "/clip.json");
  if (!file) throw std::runtime_error(folder + "/clip.json cannot be read");
  return nlohmann::json::parse(file);
}

double timed_run(Peer& peer) {
  const auto start = std::chrono::steady_clock::now();
  peer.run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void write_output(const Clip& clip, const std::string& path, const std::vector<float>& output) {
  const std::int64_t shape[] = {clip.heads, clip.tokens(), clip.head_dim};
  if (Status status = write_npy(path.c_str(), shape, output); !status.ok()) {
    throw std::runtime_error(status.message());
  }
}

/// Answers commands until `quit` or the end of stdin.
void answer(const PeerProgram& program, const Clip& clip, const Call& call) {
  std::unique_ptr<Peer> peer;
  ThreadPool pool(call.threads);
  const auto say = [](const nlohmann::json& reply) { std::cout << reply << std::endl; };
  say({{"quadratic_bytes", program.quadratic_bytes(clip, call)}});
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    if (line == "prepare") {
      peer = program.prepare(clip, call);
      say(peer->about());
    } else if (line == "peak") {
      say({{"gflops", fma_gflops(default_kernels().isa, pool)}});
    } else if (peer != nullptr && line == "run") {
      say({{"seconds", timed_run(*peer)}});
    } else if (peer != nullptr && line.starts_with("write ")) {
      write_output(clip, line.substr(6), peer->output());
      say(nlohmann::json::object());
    } else {
      throw std::runtime_error("no command here: " + line);
    }
  }
}

}  // namespace

NpyArray read_array(const std::string& folder, const std::string& name) {
  Result<NpyArray> array = read_npy((folder + "/" + name + ".npy").c_str());
  if (!array.ok()) throw std::runtime_error(array.status().message());
  return std::move(*array);
}

Clip::Clip(const std::string& path)
    : folder(path), q(read_array(path, "q")), k(read_array(path, "k")), v(read_array(path, "v")) {
  const nlohmann::json geometry = read_geometry(path);
  frames = geometry.at("frames");
  tokens_per_frame = geometry.at("tokens_per_frame");
  heads = geometry.at("heads");
  head_dim = geometry.at("head_dim");
  chunk_frames = geometry.at("chunk_frames");
  overlap_frames = geometry.at("overlap_frames");
  const std::int64_t size = heads * head_size();
  for (const NpyArray* array : {&q, &k, &v}) {
    if (static_cast<std::int64_t>(array->data.size()) != size) {
      throw std::runtime_error(path + ": arrays that are not of clip.json's shape");
    }
  }
}

int serve(int argc, char** argv, const PeerProgram& program) {
  if (argc < 4 || argc > 5 || std::atoi(argv[argc - 2]) < 1) {
    std::cerr << argv[0] << " is run by compare.py: [variant] <operator> <threads> <folder>\n";
    return 2;
  }
  try {
    const Call call{.variant = argc == 5 ? argv[1] : "",
                    .operation = argv[argc - 3],
                    .threads = std::atoi(argv[argc - 2])};
    answer(program, Clip(argv[argc - 1]), call);
    return 0;
  } catch (const std::exception& error) {
    std::cout << nlohmann::json{{"error", error.what()}} << std::endl;
    return 1;
  }
}

}  // namespace rehyat::bench
