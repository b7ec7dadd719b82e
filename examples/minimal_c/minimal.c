/* Hybrid attention over a clip from C, in one shot: examples/minimal in C11. */

#include <stdio.h>
#include <stdlib.h>

#include "rehyat/rehyat.h"

int main(void) {
  const int64_t frames = 21, tokens = 48, heads = 4, dim = 64, n = frames * tokens;
  const size_t elements = (size_t)(n * heads * dim);
  float* const q = malloc(elements * sizeof(float));
  float* const out = malloc(elements * sizeof(float));
  rehyat_thread_pool* const pool = rehyat_thread_pool_create(2);
  if (q == NULL || out == NULL || pool == NULL) return puts("no memory"), 1;
  for (size_t i = 0; i < elements; ++i) q[i] = 0.1f;

  rehyat_hybrid_parameters attention = rehyat_hybrid_defaults();
  attention.q = rehyat_const_token_major(q, REHYAT_FLOAT32, 1, n, heads, dim);
  attention.k = attention.v = attention.q;
  attention.out = rehyat_token_major(out, REHYAT_FLOAT32, 1, n, heads, dim);
  attention.chunking = (rehyat_chunking){.tokens_per_frame = tokens, .chunk_frames = 3, .overlap_frames = 1};
  attention.phi_q = attention.phi_k = rehyat_feature_map_elementwise(REHYAT_ELU1);

  const rehyat_executor executor = rehyat_thread_pool_executor(pool);
  size_t bytes = 0;
  rehyat_status status = rehyat_hybrid_workspace_size(&attention, executor.slots, &bytes);
  if (status.code != REHYAT_OK) return puts(status.message), 1;
  void* const workspace = malloc(bytes);
  if (workspace == NULL) return puts("no memory"), 1;
  status = rehyat_hybrid_attention(&attention, workspace, bytes, &executor);
  if (status.code != REHYAT_OK) return puts(status.message), 1;

  printf("out[0] is %g: the mean of equal values\n", (double)out[0]);
  free(workspace);
  rehyat_thread_pool_destroy(pool);
  free(out);
  free(q);
  return 0;
}
