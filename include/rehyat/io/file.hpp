#pragma once
// What the file formats share: owned memory, messages, reading a whole file, writing one atomically. POSIX.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "rehyat/config.hpp"
#include "rehyat/status.hpp"

namespace rehyat {

/// Owned, uninitialised memory whose allocation reports failure instead of throwing: a file may declare, and
/// be, as large as it likes. Moving it keeps the address of the elements.
template <class T>
class HeapArray {
 public:
  /// False if there is no memory for `count` elements; the array is then empty.
  [[nodiscard]] bool allocate(std::size_t count) {
    elements_.reset(new (std::nothrow) T[count]);
    size_ = count;
    return elements_ != nullptr;
  }

  T* data() { return elements_.get(); }
  const T* data() const { return elements_.get(); }
  std::size_t size() const { return elements_ == nullptr ? 0 : size_; }
  std::span<T> span() { return {data(), size()}; }
  std::span<const T> span() const { return {data(), size()}; }

 private:
  std::unique_ptr<T[]> elements_;
  std::size_t size_ = 0;
};

namespace detail {

/// A foreign string (a path, a name read from a file) made fit for a one-line message: control bytes become
/// '?', and a long one loses its middle.
class Printable {
 public:
  explicit Printable(std::string_view text) {
    constexpr std::size_t head = 20, gap = 3, tail = capacity - head - gap;
    std::size_t size = 0;
    const auto append = [&](std::string_view part) {
      for (const char c : part) text_[size++] = static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? '?' : c;
    };
    if (text.size() <= capacity) {
      append(text);
    } else {
      append(text.substr(0, head));
      append("...");
      append(text.substr(text.size() - tail));
    }
  }
  const char* c_str() const { return text_; }

 private:
  static constexpr std::size_t capacity = 64;
  char text_[capacity + 1] = {};
};

/// "[2, 3, 4]", for messages.
class ShapeText {
 public:
  explicit ShapeText(std::span<const std::int64_t> shape) {
    std::string text = "[";
    for (const std::int64_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
    text_ = text + "]";
  }
  const char* c_str() const { return text_.c_str(); }

 private:
  std::string text_;
};

/// A refusal of a file: its name, a colon, and the formatted text.
[[gnu::format(printf, 2, 3)]] inline Status file_error(const char* name, const char* format, ...) {
  char text[256];
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return Status::error(StatusCode::invalid_file, "%s: %s", Printable(name).c_str(), text);
}

/// "`action`: `reason`" for the system call that has just failed.
inline Status system_error(const char* name, const char* action) {
  const std::string reason = std::generic_category().message(errno);
  return file_error(name, "%s: %s", action, reason.c_str());
}

/// The product of `shape` and `element_size`; false if it, or the product without the zeros, is beyond int64.
inline bool checked_bytes(std::span<const std::int64_t> shape, std::int64_t element_size,
                          std::int64_t& bytes) {
  std::int64_t product = element_size;
  bool empty = false;
  for (const std::int64_t extent : shape) {
    empty = empty || extent == 0;
    if (extent < 0 || __builtin_mul_overflow(product, std::max<std::int64_t>(extent, 1), &product))
      return false;
  }
  bytes = empty ? 0 : product;
  return true;
}

/// Some systems refuse a transfer of 2 GiB or more in one call.
inline constexpr std::size_t max_transfer = std::size_t{1} << 30;

class FileDescriptor {
 public:
  explicit FileDescriptor(int descriptor) : descriptor_(descriptor) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() { close(); }

  int get() const { return descriptor_; }
  bool is_open() const { return descriptor_ >= 0; }
  bool close() { return !is_open() || ::close(std::exchange(descriptor_, -1)) == 0; }

 private:
  int descriptor_;
};

/// Without O_NONBLOCK the open itself would wait for a writer if the path names a pipe.
inline int open_to_read(const char* path) { return ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); }

/// The size of an opened file; refused where opening it failed, or where it is not a regular one.
inline Result<std::size_t> regular_file_size(const FileDescriptor& file, const char* path) {
  if (!file.is_open()) return system_error(path, "cannot be opened");
  struct stat info = {};
  if (::fstat(file.get(), &info) != 0) return system_error(path, "cannot be examined");
  if (!S_ISREG(info.st_mode)) return file_error(path, "is not a regular file");
  return static_cast<std::size_t>(info.st_size);
}

/// The whole of a regular file.
inline Result<HeapArray<std::byte>> read_file(const char* path) {
  const FileDescriptor file(open_to_read(path));
  const Result<std::size_t> size = regular_file_size(file, path);
  if (!size.ok()) return size.status();
  HeapArray<std::byte> bytes;
  if (!bytes.allocate(*size)) return file_error(path, "no memory for its %zu bytes", *size);
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t count =
        ::read(file.get(), bytes.data() + done, std::min(bytes.size() - done, max_transfer));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return system_error(path, "cannot be read");
    if (count == 0) return file_error(path, "became shorter while it was read");
    done += static_cast<std::size_t>(count);
  }
  return bytes;
}

/// A new file beside its target, removed again unless it has taken the target's place.
class TemporaryFile {
 public:
  /// `directory` ends with a slash or is empty.
  explicit TemporaryFile(const std::string& directory) : file_(create(directory, path_)) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (exists_) ::unlink(path_.c_str());
  }

  bool is_open() const { return file_.is_open(); }
  bool set_mode(mode_t mode) { return ::fchmod(file_.get(), mode) == 0; }
  bool sync_and_close() { return ::fsync(file_.get()) == 0 && file_.close(); }

  bool write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t count = ::write(file_.get(), bytes.data(), std::min(bytes.size(), max_transfer));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return false;
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
    return true;
  }

  bool rename_to(const char* target) {
    if (::rename(path_.c_str(), target) != 0) return false;
    exists_ = false;
    return true;
  }

 private:
  /// Not mkstemp: its files are private to the user, these get the permissions of any new file.
  int create(const std::string& directory, std::string& path) {
    static std::atomic<unsigned> counter = 0;
    constexpr int attempts = 100;
    for (int i = 0; i < attempts; ++i) {
      path = directory + ".rehyat-" + std::to_string(::getpid()) + "-" + std::to_string(counter++) + ".tmp";
      const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      exists_ = descriptor >= 0;
      if (exists_ || errno != EEXIST) return descriptor;
    }
    return -1;
  }

  bool exists_ = false;
  std::string path_;
  FileDescriptor file_;
};

/// New contents of a file, complete and on the disk under another name, until they take its place: several
/// files can be made ready before the first is replaced.
class FileReplacement {
 public:
  /// Writes `parts` one after another into a temporary file in the directory of `path`, which is as before.
  /// On an error nothing is left behind.
  Status prepare(const char* path, std::span<const std::span<const std::byte>> parts) {
    // A link stays a link: what it points to is replaced.
    const std::unique_ptr<char, decltype(&std::free)> resolved(::realpath(path, nullptr), &std::free);
    path_ = path;
    target_ = resolved != nullptr ? resolved.get() : path;
    struct stat previous = {};
    const bool replaces = ::stat(target_.c_str(), &previous) == 0;
    if (replaces && !S_ISREG(previous.st_mode)) {
      return file_error(path, "cannot be written: it exists and is not a regular file");
    }

    temporary_.emplace(directory());
    if (!temporary_->is_open()) return system_error(path, "cannot create a temporary file beside it");
    if (replaces && !temporary_->set_mode(previous.st_mode & 0777)) {
      return system_error(path, "cannot keep its permissions");
    }
    for (const std::span<const std::byte> part : parts) {
      if (!temporary_->write(part)) return system_error(path, "cannot be written");
    }
    if (!temporary_->sync_and_close()) return system_error(path, "cannot be written to the disk");
    return {};
  }

  /// After prepare(), once.
  Status commit() {
    if (!temporary_->rename_to(target_.c_str())) return system_error(path_.c_str(), "cannot be replaced");
    // The name is durable once its directory is. The file is complete already, so a failure here is no error.
    const std::string parent_name = directory().empty() ? "." : directory();
    const FileDescriptor parent(::open(parent_name.c_str(), O_RDONLY | O_CLOEXEC));
    if (parent.is_open()) ::fsync(parent.get());
    return {};
  }

 private:
  /// It ends with a slash or is empty.
  std::string directory() const { return target_.substr(0, target_.rfind('/') + 1); }

  std::string path_, target_;
  std::optional<TemporaryFile> temporary_;
};

/// Writes `parts` one after another, so that `path` holds either what it held before or all of them: into a
/// temporary file of the same directory, which is renamed at last. On an error nothing is left behind.
inline Status write_file_atomically(const char* path, std::span<const std::span<const std::byte>> parts) {
  FileReplacement file;
  REHYAT_RETURN_IF_ERROR(file.prepare(path, parts));
  return file.commit();
}

}  // namespace detail
}  // namespace rehyat
