#pragma once
// What crosses from rank to rank: frames of tensors, and sums. All of it while something else is computed.

#include <mpi.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "rehyat/executor.hpp"
#include "rehyat/tensor_view.hpp"
#include "shards.hpp"

namespace rehyat::mpi {

/// Consecutive frames of a tensor [frame, token, batch, head, dim]: a frame is one piece of memory, and views
/// reach across frames.
struct FrameTensor {
  Range frames;
  std::int64_t tokens_per_frame, batch, heads, dim;
  std::vector<float> data;

  FrameTensor(Range held, std::int64_t tokens, std::int64_t entries, std::int64_t num_heads,
              std::int64_t width)
      : frames(held),
        tokens_per_frame(tokens),
        batch(entries),
        heads(num_heads),
        dim(width),
        data(static_cast<std::size_t>(held.size() * frame_size())) {}

  std::int64_t frame_size() const { return tokens_per_frame * batch * heads * dim; }
  float* at(std::int64_t frame) { return data.data() + (frame - frames.begin) * frame_size(); }
  const float* at(std::int64_t frame) const { return data.data() + (frame - frames.begin) * frame_size(); }

  /// `count` heads of some frames as [batch, token, head, dim].
  TensorView<float> view(const Range& of, std::int64_t first_head, std::int64_t count) {
    const std::int64_t row = heads * dim;
    return {at(of.begin) + first_head * dim,
            batch,
            of.size() * tokens_per_frame,
            count,
            dim,
            row,
            batch * row,
            dim};
  }
};

/// Requests of one kind, the bytes behind them, and how long they took: `in_flight` while any was open,
/// `waited` of it with nothing else to do.
class Requests {
 public:
  MPI_Request& add(const Bytes& bytes) {
    if (open_ == 0) opened_ = MPI_Wtime();
    ++open_;
    bytes_.sent += bytes.sent, bytes_.received += bytes.received;
    return requests_.emplace_back(MPI_REQUEST_NULL);
  }

  /// Lets MPI go on: without a call now and then Open MPI moves neither large messages nor collectives.
  void poll() {
    if (open_ == 0) return;
    done_.resize(requests_.size());
    int count = 0;
    MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count, done_.data(),
                 MPI_STATUSES_IGNORE);
    close(count == MPI_UNDEFINED ? 0 : count);
  }

  /// Until request `index` is done; or all are.
  void wait(std::size_t index) {
    const double begin = MPI_Wtime();
    const bool was_open = requests_[index] != MPI_REQUEST_NULL;
    MPI_Wait(&requests_[index], MPI_STATUS_IGNORE);
    waited_ += MPI_Wtime() - begin;
    close(was_open ? 1 : 0);
  }
  void wait_all() {
    for (std::size_t i = 0; i < requests_.size(); ++i) wait(i);
  }

  bool done() const { return open_ == 0; }
  const Bytes& bytes() const { return bytes_; }
  double in_flight() const { return in_flight_; }
  double waited() const { return waited_; }

 private:
  void close(int count) {
    if (count == 0) return;
    open_ -= count;
    if (open_ == 0) in_flight_ += MPI_Wtime() - opened_;
  }

  std::vector<MPI_Request> requests_;
  std::vector<int> done_;
  Bytes bytes_;
  int open_ = 0;
  double opened_ = 0, in_flight_ = 0, waited_ = 0;
};

/// Runs tasks on the calling thread, and lets MPI go on after each.
class PollingExecutor {
 public:
  explicit PollingExecutor(std::initializer_list<Requests*> requests) : requests_(requests) {}
  int slots() const { return 1; }
  void run(std::int64_t count, TaskRef task) const {
    for (std::int64_t i = 0; i < count; ++i) {
      task(i, 0);
      for (Requests* r : requests_) r->poll();
    }
  }

 private:
  std::vector<Requests*> requests_;
};

/// Begins to bring every rank r the frames need[r], wherever they lie: rank s has have[s], and no two ranks
/// have the same frame. `from` holds what this rank has, `to` has room for what it needs; where both are one
/// tensor, its own frames are there already. Collective; `tag` must be no other open exchange's.
inline void exchange(std::span<const Range> have, std::span<const Range> need, const FrameTensor& from,
                     FrameTensor& to, int tag, MPI_Comm comm, Requests& requests) {
  int me = 0;
  MPI_Comm_rank(comm, &me);
  const std::size_t mine = static_cast<std::size_t>(me);
  const std::int64_t frame_bytes = to.frame_size() * static_cast<std::int64_t>(sizeof(float));
  MPI_Datatype frame;
  MPI_Type_contiguous(static_cast<int>(to.frame_size()), MPI_FLOAT, &frame);
  MPI_Type_commit(&frame);
  for (std::size_t other = 0; other < have.size(); ++other) {
    const Range in = common(have[other], need[mine]), out = common(have[mine], need[other]);
    if (other == mine) {
      if (&from != &to && !in.empty())
        std::copy_n(from.at(in.begin), in.size() * to.frame_size(), to.at(in.begin));
      continue;
    }
    if (!in.empty()) {
      MPI_Irecv(to.at(in.begin), static_cast<int>(in.size()), frame, static_cast<int>(other), tag, comm,
                &requests.add({.sent = 0, .received = in.size() * frame_bytes}));
    }
    if (!out.empty()) {
      MPI_Isend(from.at(out.begin), static_cast<int>(out.size()), frame, static_cast<int>(other), tag, comm,
                &requests.add({.sent = out.size() * frame_bytes, .received = 0}));
    }
  }
  MPI_Type_free(&frame);  // once the messages are through
}

/// Sums of the ranks before this one, of many heads at once. Each head has `entries` pieces of `size` floats
/// as RecurrentState::sums() gives them.
class PrefixSums {
 public:
  PrefixSums(std::size_t size, std::size_t entries, MPI_Comm comm)
      : entries_(static_cast<int>(entries)), comm_(comm) {
    MPI_Type_contiguous(static_cast<int>(size), MPI_FLOAT, &sums_);
    MPI_Type_commit(&sums_);
    MPI_Op_create(add, 0, &add_);  // in the order of the ranks: the same bits in every run
    MPI_Comm_rank(comm, &rank_);
    MPI_Comm_size(comm, &ranks_);
  }
  ~PrefixSums() {
    MPI_Op_free(&add_);
    MPI_Type_free(&sums_);
  }
  PrefixSums(const PrefixSums&) = delete;
  PrefixSums& operator=(const PrefixSums&) = delete;

  /// Begins with the next head, which is request number 0, 1, ... of `requests`. `before` holds zeros.
  /// Collective; both must stay as they are until the request is done.
  void start(std::span<const float> own, std::span<float> before, Requests& requests) {
    const auto bytes = static_cast<std::int64_t>(own.size_bytes());
    MPI_Iexscan(own.data(), before.data(), entries_, sums_, add_, comm_,
                &requests.add({rank_ + 1 < ranks_ ? bytes : 0, rank_ > 0 ? bytes : 0}));
  }

 private:
  static void add(void* from, void* to, int* count, MPI_Datatype* sums) {
    int bytes = 0;
    MPI_Type_size(*sums, &bytes);
    const std::size_t size = static_cast<std::size_t>(bytes) / sizeof(float);
    for (std::size_t i = 0; i < static_cast<std::size_t>(*count); ++i) {
      const Status status = add_sums({static_cast<const float*>(from) + i * size, size},
                                     {static_cast<float*>(to) + i * size, size});
      if (!status.ok()) MPI_Abort(MPI_COMM_WORLD, 1);
    }
  }

  MPI_Datatype sums_ = MPI_DATATYPE_NULL;
  MPI_Op add_ = MPI_OP_NULL;
  int entries_, rank_ = 0, ranks_ = 1;
  MPI_Comm comm_;
};

}  // namespace rehyat::mpi
