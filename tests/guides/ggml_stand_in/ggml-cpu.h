#pragma once
// The stand-in's threads.

#include "ggml.h"

inline void ggml_graph_compute_with_ctx(ggml_context*, ggml_cgraph* graph, int n_threads) {
  std::barrier barrier(n_threads);
  std::vector<std::thread> threads;
  for (int ith = 0; ith < n_threads; ++ith) {
    threads.emplace_back([&, ith] {
      for (ggml_tensor* node : graph->nodes) {
        if (node->function == nullptr) continue;
        node->function(node, ith, n_threads, node->userdata);
        barrier.arrive_and_wait();
      }
    });
  }
  for (std::thread& t : threads) t.join();
}
