#pragma once
// What one thread does: random calls on random cases, each with a result that is known.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "case.hpp"
#include "rehyat/io/state_file.hpp"
#include "rehyat/thread_pool.hpp"
#include "support/executors.hpp"

namespace rehyat::soak {

/// One pool for all threads, a phase at a time.
class SharedPool {
 public:
  explicit SharedPool(int slots) : pool_(slots) {}
  int slots() const { return pool_.slots(); }
  void run(std::int64_t count, TaskRef task) {
    const std::lock_guard lock(mutex_);
    pool_.run(count, task);
  }

 private:
  std::mutex mutex_;
  ThreadPool pool_;
};

class Worker {
 public:
  Worker(std::uint64_t seed, SharedPool& pool) : random_(seed), pool_(pool), shuffling_(seed) {}

  /// A random call, or a random way through a stream.
  testing::AssertionResult call(const Case& c) {
    switch (random_.integer(0, 5)) {
      case 0:
      case 1:
      case 2:
        return act(c, pool_);
      case 3:
        return act(c, shuffling_);
      default:
        return act(c, serial_);
    }
  }

 private:
  template <class E>
  testing::AssertionResult act(const Case& c, E& executor) {
    const int schedule = static_cast<int>(random_.integer(0, num_schedules - 1));
    switch (random_.integer(0, 7)) {
      case 0:
      case 1:
        return stream(c, schedule, executor);
      case 2:
        return peek_shared(c, schedule, executor);
      case 3:
        return refused(c, executor);
      default:
        return one_shot(c, executor);
    }
  }

  /// Memory full of what calls before have left.
  Workspace workspace(std::size_t size) {
    scratch_.resize(std::max(size, scratch_.size()));
    return {scratch_.data(), size};
  }

  static Written fresh(const Case& c) {
    const support::Geometry& g = c.clip.geometry;
    return Written(g.batch, g.tokens(), g.heads(), g.value_dim);
  }

  static testing::AssertionResult failure(const char* what, const char* why) {
    return testing::AssertionFailure() << what << ": " << why;
  }

  static testing::AssertionResult same(const char* what, const Written& a, const Written& b) {
    const testing::AssertionResult result = support::bit_equal(a, b);
    return result ? result : failure(what, result.message());
  }

  /// Calls use(name, parameters, expected) with a random operator of the case.
  template <class Use>
  testing::AssertionResult with_operator(const Case& c, Use use) {
    const std::size_t chosen =
        static_cast<std::size_t>(random_.integer(0, static_cast<std::int64_t>(c.one_shot.size()) - 1));
    testing::AssertionResult result = testing::AssertionSuccess();
    std::size_t i = 0;
    c.clip.for_each_operator([&](const char* name, auto parameters) {
      if (i++ == chosen) result = use(name, parameters, c.one_shot[chosen]);
    });
    return result;
  }

  template <class E>
  testing::AssertionResult one_shot(const Case& c, E& executor) {
    return with_operator(c, [&](const char* name, auto& p, const Written& expected) {
      if constexpr (requires { p.phi_q; }) {
        if (random_.coin()) p.phi_q = c.packed_q.map();
        if (random_.coin()) p.phi_k = c.packed_k.map();
      }
      Written written = fresh(c);
      written.receive(p);
      if (random_.coin()) c.feed(p);
      const Result<std::size_t> size = workspace_size(p, executor.slots(), *c.kernels);
      if (!size.ok()) return failure(name, size.status().message());
      const Status status = support::call(p, workspace(*size), executor, *c.kernels);
      return status.ok() ? same(name, written, expected) : failure(name, status.message());
    });
  }

  /// A byte of workspace too few: an error, and nothing is written.
  template <class E>
  testing::AssertionResult refused(const Case& c, E& executor) {
    return with_operator(c, [&](const char* name, auto& p, const Written&) {
      Written written = fresh(c);
      written.receive(p);
      const std::size_t size = *workspace_size(p, executor.slots(), *c.kernels);
      const Status status = support::call(p, workspace(size - 1), executor, *c.kernels);
      if (status.code() != StatusCode::workspace_too_small)
        return failure(name, "a small workspace was accepted");
      return same(name, written, fresh(c));
    });
  }

  template <class E>
  testing::AssertionResult peek_shared(const Case& c, int schedule, E& executor) {
    const SharedState& shared = c.shared[static_cast<std::size_t>(schedule)];
    const RecurrentState& state = **shared.state;
    Written written = fresh(c);
    support::ClipStream chunks(c.clip, written);
    const std::size_t size = *RecurrentState::workspace_size(state.config(), executor.slots(), *c.kernels);
    const Status status = state.peek(chunks.chunk(shared.chunk), workspace(size), executor, *c.kernels);
    return status.ok() ? same("shared state", written, shared.expected)
                       : failure("shared state", status.message());
  }

  /// A clip in a state of this thread's own, which between chunks is copied, saved and restored, or reset and
  /// rebuilt.
  template <class E>
  testing::AssertionResult stream(const Case& c, int schedule, E& executor) {
    RecurrentConfig config = c.clip.recurrent(schedules[schedule]);
    const bool narrow = random_.coin();
    if (narrow && random_.coin()) config.tail_type = c.k.input().type;
    support::OwnedState states[2] = {{config, executor.slots(), *c.kernels},
                                     {config, executor.slots(), *c.kernels}};
    int now = 0;
    Written written = fresh(c), unread = written;
    DenominatorReport total;
    RecurrentChunk whole{.given = c.clip.given()};
    c.feed(whole);
    written.receive(whole);
    support::ClipStream chunks =
        narrow ? support::ClipStream(c.clip, whole) : support::ClipStream(c.clip, written);
    support::ClipStream again(c.clip, unread);
    for (std::int64_t t = 0; t < chunks.chunks(); ++t) {
      const RecurrentChunk chunk = chunks.chunk(t);
      Status status;
      if (random_.coin()) {
        status = states[now].step(chunk, executor);
      } else {
        status = states[now].peek(chunk, executor);
        if (status.ok()) status = states[now].commit(chunk, executor);
      }
      if (!status.ok()) return failure("chunk", status.message());
      support::merge(total, written.report);
      switch (random_.integer(0, 5)) {
        case 0:
          status = move(*states[now], *states[1 - now]);
          now = 1 - now;
          break;
        case 1:
          states[now]->reset();
          for (std::int64_t s = 0; s <= t && status.ok(); ++s)
            status = states[now].commit(again.chunk(s), executor);
          break;
        default:
          break;
      }
      if (!status.ok()) return failure("between chunks", status.message());
    }
    written.report = total;
    return same("stream", written, c.streamed[static_cast<std::size_t>(schedule)]);
  }

  /// `to` becomes what `from` is, in one of the ways there are.
  Status move(const RecurrentState& from, RecurrentState& to) {
    switch (random_.integer(0, 2)) {
      case 0:
        return to.copy_from(from);
      case 1:
        for (std::int64_t b = 0; b < from.config().batch; ++b)
          REHYAT_RETURN_IF_ERROR(to.copy_entry(b, from, b));
        return {};
      default:
        file_.resize(state_file_size(from));
        REHYAT_RETURN_IF_ERROR(save_state(from, file_));
        return restore_state(to, file_);
    }
  }

  Random random_;
  SharedPool& pool_;
  support::Shuffling shuffling_;
  SerialExecutor serial_;
  std::vector<char> scratch_;
  std::vector<std::byte> file_;
};

}  // namespace rehyat::soak
