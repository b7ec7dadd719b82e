// minidit: a small video diffusion transformer on rehyat's attention. See README.md.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "options.hpp"

int main(int argc, char** argv) {
  using namespace rehyat::minidit;
  CLI::App app("A small video diffusion transformer on rehyat's attention", "minidit");
  app.require_subcommand(1);
  DenoiseOptions denoise;
  CLI::App* const denoise_app =
      app.add_subcommand("denoise", "The model's error on noised clips, for each way of attention");
  add_denoise_options(*denoise_app, denoise);
  SampleOptions sample;
  CLI::App* const sample_app =
      app.add_subcommand("sample", "Continues a picture as a video of any length, chunk by chunk");
  add_sample_options(*sample_app, sample);
  try {
    app.parse(argc, argv);
    if (denoise_app->parsed()) denoise_command(denoise);
    if (sample_app->parsed()) sample_command(sample);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "minidit: %s\n", e.what());
    return 2;
  }
  return 0;
}
