#pragma once

#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace rehyat::cli {

/// The exit status of a program that SIGINT ended, and of one that it asked to finish early.
inline constexpr int interrupted_status = 128 + SIGINT;

/// While it exists, the first SIGINT asks a long run to finish with what it has, and a second one ends the
/// program. One at a time.
class Interruption {
 public:
  Interruption() { previous_ = std::signal(SIGINT, note); }
  ~Interruption() { std::signal(SIGINT, previous_); }
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;

  /// From any thread.
  bool asked_for() const { return asked_for_ != 0; }

 private:
  static void note(int) {
    asked_for_ = 1;
    std::signal(SIGINT, SIG_DFL);
    constexpr char text[] = "\nending with what there is so far; a second Ctrl-C ends without it\n";
    const int error = errno;  // of what was interrupted
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text, sizeof text - 1);
    errno = error;
  }
  static inline volatile std::sig_atomic_t asked_for_ = 0;
  void (*previous_)(int);
};

}  // namespace rehyat::cli
