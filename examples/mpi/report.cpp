#include "report.hpp"

#include <cstdio>

namespace rehyat::mpi {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Range& r) { return {r.begin, r.end}; }
Json to_json(const Bytes& b) { return {{"sent", b.sent}, {"received", b.received}}; }
Json to_json(const OperationCount& n) {
  return {{"softmax", n.softmax},
          {"feature_map", n.feature_map},
          {"read", n.read},
          {"absorb", n.absorb},
          {"total", n.total()}};
}
Json to_json(const Communication& c) {
  return {{"halo", to_json(c.halo)}, {"prefix", to_json(c.prefix)}, {"outputs", to_json(c.outputs)}};
}

Json seconds_of(const RankReport& r) {
  return {{"all", r.seconds},
          {"halo_in_flight", r.halo_in_flight},
          {"halo_waited", r.halo_waited},
          {"prefix_in_flight", r.prefix_in_flight},
          {"prefix_waited", r.prefix_waited},
          {"outputs_waited", r.outputs_waited}};
}

}  // namespace

Json report(const RecurrentConfig& c, std::span<const Part> parts, std::span<const RankReport> reports) {
  const std::int64_t frames = parts.back().shard.end;
  Json result{{"clip",
               {{"frames", frames},
                {"tokens_per_frame", c.chunking.tokens_per_frame},
                {"chunk_frames", c.chunking.chunk_frames},
                {"overlap_frames", c.chunking.overlap_frames},
                {"batch", c.batch},
                {"heads", c.heads},
                {"kv_heads", c.kv_heads},
                {"head_dim", c.head_dim},
                {"value_dim", c.value_dim},
                {"feature_dim", c.phi_k.feature_dim(c.head_dim)}}}};
  Json& ranks = result["ranks"] = Json::array();
  for (std::size_t r = 0; r < parts.size(); ++r) {
    const Part& part = parts[r];
    ranks.push_back({{"shard", to_json(part.shard)},
                     {"chunks", to_json(part.chunks)},
                     {"keys", to_json(part.keys)},
                     {"absorbed", to_json(part.absorbed)},
                     {"operations", to_json(operations_of(c, frames, part))},
                     {"bytes", to_json(reports.empty() ? communication_of(c, parts, r) : reports[r].bytes)}});
    if (!reports.empty()) ranks.back()["seconds"] = seconds_of(reports[r]);
  }
  return result;
}

void print_table(const Json& report) {
  std::printf("rank     frames     chunks     GFLOP   kB sent: halo   sums  outputs");
  const bool timed = report["ranks"][0].contains("seconds");
  std::printf(timed ? "        ms   halo: in flight  waited   sums: in flight  waited\n" : "\n");
  for (std::size_t r = 0; r < report["ranks"].size(); ++r) {
    const Json& rank = report["ranks"][r];
    const auto first = [&](const char* name, int i) {
      return rank[name][static_cast<std::size_t>(i)].get<long>();
    };
    const auto kilobytes = [&](const char* kind) { return rank["bytes"][kind]["sent"].get<double>() / 1e3; };
    std::printf("%4zu %5ld-%-5ld%5ld-%-5ld%9.3f%16.1f%7.1f%9.1f", r, first("shard", 0), first("shard", 1),
                first("chunks", 0), first("chunks", 1), rank["operations"]["total"].get<double>() / 1e9,
                kilobytes("halo"), kilobytes("prefix"), kilobytes("outputs"));
    if (timed) {
      const auto ms = [&](const char* name) { return rank["seconds"][name].get<double>() * 1e3; };
      std::printf("%10.2f%18.2f%8.2f%18.2f%8.2f", ms("all"), ms("halo_in_flight"), ms("halo_waited"),
                  ms("prefix_in_flight"), ms("prefix_waited"));
    }
    std::printf("\n");
  }
}

}  // namespace rehyat::mpi
