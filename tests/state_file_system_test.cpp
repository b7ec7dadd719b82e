// State files on a disk: whole or not at all, whenever the writer fails or is killed.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rehyat/io/state_file.hpp"
#include "support/clip_stream.hpp"
#include "support/files.hpp"
#include "support/random.hpp"
#include "support/state_files.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::OwnedState;
using support::Random;
using support::saved;
using support::TestClip;
using test::expect_refused;
using test::read_bytes;
using test::write_bytes;

/// Two states of the same configuration, and a directory.
class StateFileSystem : public testing::Test {
 protected:
  StateFileSystem()
      : clip_(random_, {.batch = 2, .overlap_frames = 3, .dim = 30, .value_dim = 100},
              support::Features::given),
        first_(config(), 1, default_kernels()),
        second_(config(), 1, default_kernels()) {
    support::stream(clip_, second_, serial_);
  }
  RecurrentConfig config() const { return clip_.recurrent(RecurrentSchedule::hybrid); }

  /// The names in the directory that are not of a killed writer's temporary files, which are removed.
  std::vector<std::string> names_after_a_kill() const {
    for (const std::string& name : directory_.names()) {
      if (name.starts_with(".rehyat-") && name.ends_with(".tmp"))
        std::filesystem::remove(directory_.file(name));
    }
    return directory_.names();
  }

  Random random_{1};
  TestClip clip_;
  SerialExecutor serial_;
  OwnedState first_, second_;
  test::TemporaryDirectory directory_;
  const std::string path_ = directory_.file("video.state");
};

TEST_F(StateFileSystem, AFileIsTheBytesOfTheSpan) {
  ASSERT_TRUE(save_state(*second_, path_.c_str()).ok());
  EXPECT_EQ(read_bytes(path_), saved(*second_));
  ASSERT_TRUE(restore_state(*first_, path_.c_str()).ok());
  EXPECT_TRUE(support::same_bytes(first_.memory(), second_.memory()));

  ASSERT_TRUE(save_entry(*second_, 1, path_.c_str()).ok());
  EXPECT_EQ(read_bytes(path_), support::saved_entry(*second_, 1));
  first_->reset();
  ASSERT_TRUE(restore_entry(*first_, 0, path_.c_str()).ok());
  EXPECT_EQ(support::saved_entry(*first_, 0), support::saved_entry(*second_, 1));
  EXPECT_EQ(first_->frames_seen(1), 0);
  EXPECT_EQ(directory_.names(), std::vector<std::string>{"video.state"});
}

TEST_F(StateFileSystem, ANewFileHasThePermissionsOfAnyNewFile) {
  const mode_t old_mask = ::umask(027);
  const Status status = save_state(*first_, path_.c_str());
  ::umask(old_mask);
  ASSERT_TRUE(status.ok()) << status.message();
  struct stat info = {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
}

TEST_F(StateFileSystem, RefusalsNameTheFileAndTheReason) {
  const auto refused = [&](const Status& status, std::string_view file, std::string_view what) {
    expect_refused(status, StatusCode::invalid_file, file, what);
  };
  const std::string folder = directory_.file("folder"), absent = directory_.file("absent/video.state");
  std::filesystem::create_directory(folder);
  refused(save_state(*first_, folder.c_str()), "folder: ", "not a regular file");
  refused(save_state(*first_, absent.c_str()), "absent/video.state: ", "No such file or directory");
  refused(save_state(*first_, ""), ": ", "No such file or directory");
  refused(restore_state(*first_, folder.c_str()), "folder: ", "not a regular file");
  refused(restore_state(*first_, absent.c_str()), "absent/video.state: ", "No such file or directory");
  refused(restore_state(*first_, ""), ": ", "No such file or directory");

  write_bytes(path_, "");
  refused(restore_state(*first_, path_.c_str()), "video.state: ", "magic is ''");
  write_bytes(path_, saved(*second_) + "x");
  refused(restore_state(*first_, path_.c_str()), "video.state: ", "trailing bytes");
  refused(restore_entry(*first_, 1, path_.c_str()), "video.state: ", "trailing bytes");
  EXPECT_EQ(first_->frames_seen(), 0);
  EXPECT_EQ(directory_.names(), (std::vector<std::string>{"folder", "video.state"}));

  if (::geteuid() == 0) return;  // for whom no directory is read-only
  std::filesystem::permissions(folder,
                               std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  refused(save_state(*first_, (folder + "/video.state").c_str()), "video.state: ", "Permission denied");
  std::filesystem::permissions(folder, std::filesystem::perms::owner_all);
}

/// A disk that fills up after any number of bytes.
TEST_F(StateFileSystem, AWriteThatFailsLeavesTheOldFileAndNothingElse) {
  const std::string old = saved(*second_);
  write_bytes(path_, old);
  rlimit unlimited = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &unlimited), 0);
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  for (const std::size_t room :
       {std::size_t{0}, std::size_t{1}, std::size_t{143}, old.size() / 2, old.size() - 1}) {
    rlimit small = unlimited;
    small.rlim_cur = room;
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    const Status status = save_state(*first_, path_.c_str());
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &unlimited), 0);
    expect_refused(status, StatusCode::invalid_file, "video.state: ", "cannot be written: File too large");
    EXPECT_EQ(read_bytes(path_), old);
    EXPECT_EQ(directory_.names(), std::vector<std::string>{"video.state"});
  }
  ::signal(SIGXFSZ, old_handler);
}

/// Killed by the write itself, after any number of bytes.
TEST_F(StateFileSystem, AWriterKilledInItsWriteLeavesTheOldFile) {
  const std::string old = saved(*second_);
  write_bytes(path_, old);
  for (const std::size_t room :
       {std::size_t{0}, std::size_t{1}, std::size_t{143}, old.size() / 2, old.size() - 1}) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const rlimit small = {room, room}, no_core = {0, 0};
      ::signal(SIGXFSZ, SIG_DFL);
      if (::setrlimit(RLIMIT_FSIZE, &small) != 0 || ::setrlimit(RLIMIT_CORE, &no_core) != 0) ::_exit(1);
      static_cast<void>(save_state(*first_, path_.c_str()));
      ::_exit(2);
    }
    int how = 0;
    ASSERT_EQ(::waitpid(child, &how, 0), child);
    EXPECT_TRUE(WIFSIGNALED(how) && WTERMSIG(how) == SIGXFSZ) << how;
    EXPECT_EQ(read_bytes(path_), old);
    EXPECT_EQ(directory_.names().size(), 2u) << "a temporary file is what a killed writer leaves";
    EXPECT_EQ(names_after_a_kill(), std::vector<std::string>{"video.state"});
  }
}

/// Writes two states in turn until it is killed.
[[noreturn]] void write_for_ever(const RecurrentState& first, const RecurrentState& second,
                                 const char* path) {
  ::alarm(60);  // should nobody kill it
  for (;;) {
    if (!save_state(first, path).ok() || !save_state(second, path).ok()) ::_exit(1);
  }
}

TEST_F(StateFileSystem, AWriterKilledAtAnyMomentLeavesOneOfTheTwoStates) {
  const std::string files[] = {saved(*first_), saved(*second_)};
  ASSERT_NE(files[0], files[1]);
  write_bytes(path_, files[0]);
  int left_second = 0, interrupted = 0;
  for (const std::uint64_t seed : support::seeds(60)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    OwnedState *one = &first_, *other = &second_;
    if (random.coin()) std::swap(one, other);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) write_for_ever(**one, **other, path_.c_str());
    ::usleep(static_cast<useconds_t>(random.integer(0, 20000)));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int how = 0;
    ASSERT_EQ(::waitpid(child, &how, 0), child);
    ASSERT_TRUE(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL) << how;
    interrupted += directory_.names().size() > 1;
    ASSERT_EQ(names_after_a_kill(), std::vector<std::string>{"video.state"});
    const std::string now = read_bytes(path_);
    ASSERT_TRUE(now == files[0] || now == files[1]) << now.size() << " bytes, neither of the two states";
    left_second += now == files[1];
    OwnedState restored(config(), 1, default_kernels());
    ASSERT_TRUE(restore_state(*restored, path_.c_str()).ok());
  }
  std::printf("[  kills   ] %d left the second state, %d a temporary file\n", left_second, interrupted);
}

}  // namespace
}  // namespace rehyat
