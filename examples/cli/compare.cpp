#include "compare.hpp"

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "attend.hpp"
#include "bad_input.hpp"
#include "inputs.hpp"
#include "report.hpp"
#include "states.hpp"

namespace rehyat::cli {
namespace {

/// Sums over pairs of elements (a: the first file's), from which the measures follow.
struct Difference {
  double l1 = 0, l2 = 0, a_l1 = 0, a_l2 = 0, b_l2 = 0, product = 0;

  void add(double a, double b) {
    l1 += std::abs(a - b);
    l2 += (a - b) * (a - b);
    a_l1 += std::abs(a);
    a_l2 += a * a;
    b_l2 += b * b;
    product += a * b;
  }
  void add(const Difference& d) {
    l1 += d.l1;
    l2 += d.l2;
    a_l1 += d.a_l1;
    a_l2 += d.a_l2;
    b_l2 += d.b_l2;
    product += d.product;
  }
  double relative_l1() const { return relative(l1, a_l1); }
  double relative_l2() const { return std::sqrt(relative(l2, a_l2)); }
  double cosine() const { return product / (std::sqrt(a_l2) * std::sqrt(b_l2)); }

 private:
  /// Two arrays of zeros do not differ.
  static double relative(double difference, double size) { return difference == 0 ? 0 : difference / size; }
};

/// One entry a head, of the tokens from `first_token` on.
std::vector<Difference> differences(const NamedArray& first, const float* b, std::int64_t first_token) {
  const float* const a = first.array.data.data();
  const std::int64_t heads = first.heads(), dim = first.dim();
  std::vector<Difference> by_head(static_cast<std::size_t>(heads));
  for (std::int64_t row = first_token * heads; row < first.tokens() * heads; ++row) {
    Difference& head = by_head[static_cast<std::size_t>(row % heads)];
    for (std::int64_t i = row * dim; i < (row + 1) * dim; ++i) {
      head.add(static_cast<double>(a[i]), static_cast<double>(b[i]));
    }
  }
  return by_head;
}

Json to_json(const Difference& all, const std::vector<Difference>& by_head) {
  Json json = {{"heads", by_head.size()},
               {"relative_l1", all.relative_l1()},
               {"relative_l2", all.relative_l2()},
               {"cosine", all.cosine()}};
  for (const Difference& head : by_head) {
    json["relative_l1_by_head"].push_back(head.relative_l1());
    json["relative_l2_by_head"].push_back(head.relative_l2());
    json["cosine_by_head"].push_back(head.cosine());
  }
  return json;
}

void print_row(const char* head, const Difference& d) {
  std::printf("%4s  %12.4e  %12.4e  %12.9f\n", head, d.relative_l1(), d.relative_l2(), d.cosine());
}

void print_table(const Difference& all, const std::vector<Difference>& by_head) {
  std::printf("%4s  %12s  %12s  %12s\n", "head", "relative L1", "relative L2", "cosine");
  for (std::size_t h = 0; h < by_head.size(); ++h) print_row(std::to_string(h).c_str(), by_head[h]);
  print_row("all", all);
}

void check_options(const CompareOptions& o) {
  if (o.files.size() == 2 && o.has_second_run) {
    throw BadInput("compare takes a second file or the options of a second run, not both");
  }
  if (o.files.size() == 2) return;
  if (!o.has_second_run) throw BadInput("compare needs a second file, or the options of a second run");
  const AttendOptions& run = o.second_run;
  for (const auto& [option, value] : {std::pair{"--q", &run.q}, {"--k", &run.k}, {"--v", &run.v}}) {
    if (value->empty()) throw BadInput(std::string("the second run of compare needs ") + option);
  }
  if (!run.out.empty()) check_output_path("--out", run.out);
  check_state_paths(run);
}

std::int64_t first_token_of(const CompareOptions& o, const NamedArray& first) {
  if (o.first_frame == 0) return 0;
  if (!first.has_frames() || o.first_frame >= first.frames()) {
    throw BadInput(first.subject + "shape " + detail::ShapeText(first.array.extents()).c_str() +
                   "; expected [frames, tokens, heads, dim] with frames from --first-frame " +
                   std::to_string(o.first_frame) + " on");
  }
  return o.first_frame * first.array.shape[1];
}

/// Refuses what is not the same tokens, heads and channels; the rank may differ.
void check_alike(const NamedArray& first, const NamedArray& second_shape, const std::string& second) {
  const bool alike = first.tokens() == second_shape.tokens() && first.heads() == second_shape.heads() &&
                     first.dim() == second_shape.dim();
  if (alike) return;
  throw BadInput(second + "shape " + detail::ShapeText(second_shape.array.extents()).c_str() + "; expected " +
                 detail::ShapeText(first.array.extents()).c_str() + " as the first file has");
}

}  // namespace

void compare_command(const CompareOptions& options, bool json) {
  check_options(options);
  const NamedArray first = load_array("", options.files[0]);
  const std::int64_t first_token = first_token_of(options, first);
  std::optional<AttendRun> run;
  NamedArray second;
  std::span<const float> values;
  if (options.has_second_run) {
    run = run_attend(options.second_run);
    second.subject = "the second run: ";
    second.array.rank = static_cast<int>(run->geometry.out_shape.size());
    std::copy(run->geometry.out_shape.begin(), run->geometry.out_shape.end(), second.array.shape);
    values = run->out;
  } else {
    second = load_array("", options.files[1]);
    values = second.array.data.span();
  }
  check_alike(first, second, second.subject);
  if (run) write_outputs(*run);

  const std::vector<Difference> by_head = differences(first, values.data(), first_token);
  Difference all;
  for (const Difference& head : by_head) all.add(head);
  if (json) {
    Json object = to_json(all, by_head);
    if (run) object["run"] = to_json(*run);
    return print_json(object);
  }
  if (run) print_text(*run);
  print_table(all, by_head);
}

}  // namespace rehyat::cli
