// fidkit's CPU kernels: runs of an encoder's layers and what they are made of, and one whole step of a decoder.
//
// A plain C interface over packed arrays, so that any compiler builds it in seconds and ctypes calls it. Every
// kernel has a counterpart in torch that it is tested against.

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "attention.h"
#include "decoder.h"
#include "encoder.h"

// `type` below: see `Type`.
extern "C" {

int fidkit_version() { return 6; }

int fidkit_lanes() { return LANES; }

// 1 if bfloat16 products run in hardware: without it bfloat16 saves bytes but no arithmetic.
int fidkit_has_bfloat16() {
#ifdef __AVX512BF16__
  return 1;
#else
  return 0;
#endif
}

// What the largest activation of 8 bits becomes: 127, or less where sums of two products saturate at 16 bits.
int fidkit_most_of_8_bits() { return Slots<int8_t>::MOST; }

// Asks for large pages, before memory is first used: there are fewer of them to be handed out and to be found.
// What the system makes of it changes no result.
void fidkit_ask_for_large_pages(void* memory, int64_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t PAGE = 4096;
  const auto begin = (reinterpret_cast<uintptr_t>(memory) + PAGE - 1) / PAGE * PAGE;
  const auto end = (reinterpret_cast<uintptr_t>(memory) + bytes) / PAGE * PAGE;
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)memory, (void)bytes;
#endif
}

void fidkit_row_attention(int type, const void* q, const void* k, const void* v, int64_t stride, void* out,
                          int64_t out_stride, const int64_t* starts, int64_t rows, int64_t heads,
                          int64_t head, const float* bias, int64_t reach, int threads) {
  const auto of = [&](auto element) {
    using T = decltype(element);
    const RowAttention<T> attention{static_cast<const T*>(q), static_cast<const T*>(k), static_cast<const T*>(v),
                                    stride, static_cast<T*>(out), out_stride, starts, heads, head, bias, reach};
    row_attention(attention, rows, threads);
  };
  type == BFLOAT16 ? of(bfloat16{}) : of(float{});
}

void fidkit_add_norm(int type, float* states, const void* change, const float* weight, float epsilon,
                     void* out, int64_t rows, int64_t width, int threads) {
  if (type == BFLOAT16)
    add_norm(states, static_cast<const bfloat16*>(change), weight, epsilon, static_cast<bfloat16*>(out), rows,
             width, threads);
  else
    add_norm(states, static_cast<const float*>(change), weight, epsilon, static_cast<float*>(out), rows,
             width, threads);
}

void fidkit_gated_gelu(int type, const void* gate, const void* inner, void* out, int64_t size, int threads) {
  if (type == BFLOAT16)
    gated_gelu(static_cast<const bfloat16*>(gate), static_cast<const bfloat16*>(inner),
               static_cast<bfloat16*>(out), size, threads);
  else
    gated_gelu(static_cast<const float*>(gate), static_cast<const float*>(inner), static_cast<float*>(out),
               size, threads);
}

// `mode` of the next two: see `Mode`.
void fidkit_product(int mode, const float* x, int64_t stride, int64_t count, const Packed* weight, float* out,
                    int threads) {
  const auto of = [&](auto slot) { product<decltype(slot)>(x, stride, count, *weight, out, threads); };
  mode == FLOATS ? of(float{}) : mode == INT16_ACTIVATIONS ? of(int16_t{}) : of(int8_t{});
}

void fidkit_encode(int mode, const Encoder* encoder, int threads) {
  const auto of = [&](auto slot) { EncoderRun<decltype(slot)>(*encoder, threads)(); };
  mode == FLOATS ? of(float{}) : mode == INT16_ACTIVATIONS ? of(int16_t{}) : of(int8_t{});
}

void fidkit_pack_context(int type, const void* keys, const void* values, int64_t stride, int64_t count,
                         int64_t groups, int64_t head, int64_t room, void* packed_keys, void* packed_values,
                         int threads) {
  auto* to_keys = static_cast<uint32_t*>(packed_keys);
  auto* to_values = static_cast<uint32_t*>(packed_values);
  if (type == BFLOAT16)
    pack_context(static_cast<const bfloat16*>(keys), static_cast<const bfloat16*>(values), stride, count,
                 groups, head, room, to_keys, to_values, threads);
  else
    pack_context(static_cast<const float*>(keys), static_cast<const float*>(values), stride, count, groups,
                 head, room, to_keys, to_values, threads);
}

void fidkit_decoder_step(int type, const Step* step, int threads) {
  type == BFLOAT16 ? decoder_step<bfloat16>(*step, threads) : decoder_step<float>(*step, threads);
}
}
