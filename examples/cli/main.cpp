// rehyat: attention over .npy files. See README.md.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "attend.hpp"
#include "bad_input.hpp"
#include "combinations.hpp"
#include "compare.hpp"
#include "distill.hpp"
#include "option_kinds.hpp"
#include "options.hpp"
#include "tune.hpp"

namespace rehyat::cli {
namespace {

constexpr int refused_status = 2;

/// One line, whatever is in the message.
int refuse(std::string message) {
  std::replace_if(
      message.begin(), message.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, ' ');
  std::fprintf(stderr, "rehyat: %s\n", message.c_str());
  return refused_status;
}

struct Commands {
  AttendOptions attend;
  CompareOptions compare;
  DistillOptions distill;
  TuneOptions tune;
  bool json = false;
  int status = 0;  ///< of the program
};

void add_attend(CLI::App& app, Commands& c) {
  CLI::App* const command = app.add_subcommand("attend", "Runs attention over a clip and writes the result");
  add_attend_options(*command, c.attend, true);
  command->add_flag("--json", c.json, "Print one JSON object on standard output");
  command->footer(combination_table());
  command->callback([&c] { attend_command(c.attend, c.json); });
}

void add_compare(CLI::App& app, Commands& c) {
  CLI::App* const command = app.add_subcommand("compare",
                                               "Relative L1, L2 and cosine, by head, of two results, or of "
                                               "one and of a run with the options of attend");
  add_attend_options(*command, c.compare.second_run, false);
  const std::vector<CLI::Option*> run_options =
      command->get_options([](const CLI::Option* o) { return o->get_name() != "--help"; });
  command->add_option("files", c.compare.files, "The result that is compared to, and another")
      ->required()
      ->expected(1, 2);
  command->add_option("--first-frame", c.compare.first_frame, "Leave out the frames before it")
      ->check(at_least(0))
      ->capture_default_str();
  command->add_flag("--json", c.json, "Print one JSON object on standard output");
  command->footer(combination_table());
  command->callback([&c, run_options] {
    c.compare.has_second_run = std::any_of(run_options.begin(), run_options.end(),
                                           [](const CLI::Option* o) { return o->count() > 0; });
    compare_command(c.compare, c.json);
  });
}

void add_distill(CLI::App& app, Commands& c) {
  CLI::App* const command = app.add_subcommand(
      "distill",
      "Trains phi_q and phi_k of one layer, such that hybrid attention reproduces softmax on its clips");
  add_distill_options(*command, c.distill);
  command->add_flag("--json", c.json, "Print one JSON object on standard output");
  command->callback([&c] { c.status = distill_command(c.distill, c.json); });
}

void add_tune(CLI::App& app, Commands& c) {
  CLI::App* const command = app.add_subcommand(
      "tune",
      "Error and cost of chunks, overlaps and features, and the best choice for each layer in a budget");
  add_tune_options(*command, c.tune);
  command->add_flag("--json", c.json, "Print one JSON object on standard output");
  command->callback([&c] { c.status = tune_command(c.tune, c.json); });
}

int run(int argc, char** argv) {
  Commands commands;
  CLI::App app("Chunked hybrid attention of video diffusion transformers, on .npy files", "rehyat");
  app.require_subcommand(1);
  app.footer(combination_table());
  add_attend(app, commands);
  add_compare(app, commands);
  add_distill(app, commands);
  add_tune(app, commands);
  try {
    app.parse(argc, argv);
  } catch (const CLI::RequiredError& e) {  // thrown before an unknown option is, which says more
    const std::vector<std::string> unknown = app.remaining(true);
    return refuse(unknown.empty() ? e.what() : "there is no option or argument " + unknown.front());
  } catch (const CLI::ParseError& e) {
    return e.get_exit_code() == 0 ? app.exit(e) : refuse(e.what());
  }
  if (std::fflush(stdout) != 0) return refuse("standard output cannot be written");
  return commands.status;
}

}  // namespace
}  // namespace rehyat::cli

int main(int argc, char** argv) {
  using rehyat::cli::refuse;
  std::signal(SIGXFSZ, SIG_IGN);  // a file too large is then an error of write(), which cleans up
  try {
    return rehyat::cli::run(argc, argv);
  } catch (const rehyat::cli::BadInput& e) {
    return refuse(e.what());
  } catch (const std::bad_alloc&) {
    return refuse("there is not enough memory");
  } catch (const std::length_error&) {
    return refuse("there is not enough memory");
  } catch (const std::exception& e) {
    return refuse(e.what());
  }
}
