// An engine in C11: hybrid attention over a clip in one shot, then chunk by chunk, which must agree to the
// bit; own threads, saved states, and what errors look like.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rehyat/rehyat.h"

enum { FRAMES = 8, TOKENS = 5, HEADS = 4, KV_HEADS = 2, DIM = 16, CHUNK = 3, N = FRAMES * TOKENS };

static float q[N * HEADS * DIM], k[N * KV_HEADS * DIM], v[N * KV_HEADS * DIM];
static float whole[N * HEADS * DIM], out[N * HEADS * DIM];
static int failures = 0;

static void check(int good, const char* what) {
  if (good) return;
  ++failures;
  fprintf(stderr, "failed: %s\n", what);
}

static void check_ok(rehyat_status status, const char* what) {
  if (status.code != REHYAT_OK) fprintf(stderr, "%s\n", status.message);
  check(status.code == REHYAT_OK && status.message[0] == '\0', what);
}

static void check_refused(rehyat_status status, rehyat_status_code code, const char* message) {
  if (status.code == code && strcmp(status.message, message) == 0) return;
  ++failures;
  fprintf(stderr, "failed: code %d, \"%s\", expected %d, \"%s\"\n", (int)status.code, status.message,
          (int)code, message);
}

static void* allocate(size_t bytes) {
  void* memory = malloc(bytes);
  if (memory == NULL) {
    fprintf(stderr, "no memory for %zu bytes\n", bytes);
    exit(1);
  }
  return memory;
}

static void fill(float* values, size_t count, uint32_t seed) {
  for (size_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    values[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;
  }
}

/// An engine's own executor: tasks from the last to the first, in several slots.
static void run_backwards(void* context, int64_t count, rehyat_task task, void* task_context) {
  int64_t* calls = context;
  for (int64_t i = count - 1; i >= 0; --i) task(task_context, i, (int32_t)(i % 3));
  ++*calls;
}

static rehyat_hybrid_parameters clip(float* output) {
  rehyat_hybrid_parameters p = rehyat_hybrid_defaults();
  p.q = rehyat_const_token_major(q, REHYAT_FLOAT32, 1, N, HEADS, DIM);
  p.k = rehyat_const_token_major(k, REHYAT_FLOAT32, 1, N, KV_HEADS, DIM);
  p.v = rehyat_const_token_major(v, REHYAT_FLOAT32, 1, N, KV_HEADS, DIM);
  p.out = rehyat_token_major(output, REHYAT_FLOAT32, 1, N, HEADS, DIM);
  p.chunking = (rehyat_chunking){.tokens_per_frame = TOKENS, .chunk_frames = CHUNK, .overlap_frames = 1};
  p.phi_q = p.phi_k = rehyat_feature_map_elementwise(REHYAT_ELU1);
  return p;
}

static rehyat_recurrent_config recurrence(const rehyat_hybrid_parameters* p) {
  rehyat_recurrent_config config = rehyat_recurrent_config_defaults();
  config.heads = HEADS;
  config.kv_heads = KV_HEADS;
  config.head_dim = config.value_dim = DIM;
  config.chunking = p->chunking;
  config.phi_q = p->phi_q;
  config.phi_k = p->phi_k;
  return config;
}

/// Chunk `first / CHUNK` of the clip.
static rehyat_recurrent_chunk chunk_at(const rehyat_hybrid_parameters* p, int64_t first) {
  const int64_t frames = first + CHUNK < FRAMES ? CHUNK : FRAMES - first;
  rehyat_recurrent_chunk chunk = rehyat_recurrent_chunk_defaults();
  chunk.q = rehyat_const_slice_tokens(p->q, first * TOKENS, frames * TOKENS);
  chunk.k = rehyat_const_slice_tokens(p->k, first * TOKENS, frames * TOKENS);
  chunk.v = rehyat_const_slice_tokens(p->v, first * TOKENS, frames * TOKENS);
  chunk.out = rehyat_slice_tokens(p->out, first * TOKENS, frames * TOKENS);
  return chunk;
}

static void one_shot(const rehyat_hybrid_parameters* p, const rehyat_executor* executor) {
  size_t bytes = 0;
  check_ok(rehyat_hybrid_workspace_size(p, executor->slots, &bytes), "one shot: workspace");
  void* workspace = allocate(bytes);
  check_ok(rehyat_hybrid_attention(p, workspace, bytes, executor), "one shot");
  check_refused(rehyat_hybrid_attention(p, NULL, bytes, executor), REHYAT_INVALID_ARGUMENT,
                "workspace.data is null, expected memory");
  check(rehyat_hybrid_attention(p, workspace, bytes - 1, executor).code == REHYAT_WORKSPACE_TOO_SMALL,
        "a workspace that is too small");
  free(workspace);
}

/// Steps through the clip, saving the state before the second chunk and restoring it into another.
static void chunk_by_chunk(const rehyat_executor* executor) {
  const rehyat_hybrid_parameters p = clip(out);
  const rehyat_recurrent_config config = recurrence(&p);
  size_t state_bytes = 0, workspace_bytes = 0, file_bytes = 0;
  check_ok(rehyat_recurrent_size(&config, &state_bytes), "size of the state");
  check_ok(rehyat_recurrent_workspace_size(&config, executor->slots, &workspace_bytes), "workspace");
  void *memory = allocate(state_bytes), *more_memory = allocate(state_bytes);
  void* workspace = allocate(workspace_bytes);
  rehyat_recurrent_state *state = NULL, *other = NULL;
  check_ok(rehyat_recurrent_create(&config, memory, state_bytes, &state), "create");
  check_ok(rehyat_recurrent_create(&config, more_memory, state_bytes, &other), "create another");
  check_ok(rehyat_recurrent_save_size(state, &file_bytes), "size of the file");
  void* file = allocate(file_bytes);

  memset(out, 0, sizeof out);
  for (int64_t first = 0; first < FRAMES; first += CHUNK) {
    const rehyat_recurrent_chunk chunk = chunk_at(&p, first);
    check_ok(rehyat_recurrent_step(state, &chunk, workspace, workspace_bytes, executor), "step");
    if (first > 0) continue;
    check_ok(rehyat_recurrent_save(state, file, file_bytes), "save");
    check_ok(rehyat_recurrent_restore(other, file, file_bytes), "restore");
    rehyat_recurrent_state* const before = state;
    state = other;
    other = before;
  }
  check(memcmp(out, whole, sizeof out) == 0, "chunk by chunk equals one shot");

  int64_t frames = 0;
  int32_t finished = 0;
  check_ok(rehyat_recurrent_frames_seen(state, 0, &frames), "frames seen");
  check_ok(rehyat_recurrent_finished(state, 0, &finished), "finished");
  check(frames == FRAMES && finished == 1, "what the state has seen");
  const rehyat_recurrent_chunk again = chunk_at(&p, 0);
  check(rehyat_recurrent_step(state, &again, workspace, workspace_bytes, executor).code ==
            REHYAT_SEQUENCE_FINISHED,
        "a chunk after a short one");
  check_ok(rehyat_recurrent_reset(state), "reset");
  check_ok(rehyat_recurrent_step(state, &again, workspace, workspace_bytes, executor), "step after a reset");
  unsigned char* const byte = (unsigned char*)file + file_bytes / 2;
  *byte = (unsigned char)(*byte ^ 1u);
  check(rehyat_recurrent_restore(state, file, file_bytes).code == REHYAT_INVALID_FILE, "a flipped bit");
  free(file);
  free(workspace);
  free(more_memory);
  free(memory);
}

static void errors(void) {
  const rehyat_executor serial = rehyat_serial_executor();
  rehyat_hybrid_parameters p = clip(out);
  size_t bytes = 0;
  check_refused(rehyat_hybrid_workspace_size(NULL, 1, &bytes), REHYAT_INVALID_ARGUMENT,
                "parameters is null, expected memory");
  check_refused(rehyat_hybrid_attention(&p, NULL, 0, NULL), REHYAT_INVALID_ARGUMENT,
                "executor is null, expected memory");
  p.phi_q.struct_size = 0;
  char expected[252];
  snprintf(expected, sizeof expected,
           "phi_q.struct_size is 0, expected %zu, as in what its defaults function returns",
           sizeof(rehyat_feature_map));
  check_refused(rehyat_hybrid_workspace_size(&p, 1, &bytes), REHYAT_INVALID_ARGUMENT, expected);
  p = clip(out);
  p.q.dim = 513;
  check_refused(rehyat_hybrid_attention(&p, NULL, 0, &serial), REHYAT_INVALID_ARGUMENT,
                "q.dim is 513, expected 1 to 512");
  p = clip(out);
  p.v.type = 7;
  check_refused(rehyat_hybrid_attention(&p, NULL, 0, &serial), REHYAT_INVALID_ARGUMENT,
                "v.type is 7, expected 0 to 2");
}

int main(void) {
  fill(q, sizeof q / sizeof *q, 1);
  fill(k, sizeof k / sizeof *k, 2);
  fill(v, sizeof v / sizeof *v, 3);

  const rehyat_executor serial = rehyat_serial_executor();
  const rehyat_hybrid_parameters in_whole = clip(whole), in_out = clip(out);
  one_shot(&in_whole, &serial);

  int64_t calls = 0;
  const rehyat_executor backwards = {.slots = 3, .context = &calls, .run = run_backwards};
  one_shot(&in_out, &backwards);
  check(calls > 0 && memcmp(out, whole, sizeof out) == 0, "an own executor");

  rehyat_thread_pool* pool = rehyat_thread_pool_create(3);
  check(pool != NULL, "a thread pool");
  const rehyat_executor threads = rehyat_thread_pool_executor(pool);
  chunk_by_chunk(&serial);
  chunk_by_chunk(&backwards);
  chunk_by_chunk(&threads);
  rehyat_thread_pool_destroy(pool);

  errors();
  check(rehyat_isa_available(rehyat_active_isa()) == 1, "the active instruction set");
  printf("rehyat %s on %s: %d failures\n", rehyat_version(), rehyat_isa_name(rehyat_active_isa()), failures);
  return failures == 0 ? 0 : 1;
}
