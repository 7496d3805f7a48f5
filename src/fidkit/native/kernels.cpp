// fidkit's CPU kernels: runs of an encoder's layers and what they are made of, and one whole step of a decoder.
//
// A plain C interface over packed arrays, so that any compiler builds it in seconds and ctypes calls it. Every
// kernel has a counterpart in torch that it is tested against.
//
// A compiler takes about as long for products of integers as for all the rest: with FIDKIT_HALF of 1 they alone are
// compiled, with 0 the rest, and without it all (fidkit.native.build).

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "attention.h"
#include "context.h"
#include "decoder.h"
#include "encoder.h"

namespace {

// Whether there was memory for all of it: no exception may cross into another language.
template <class Body>
int has_room(const Body& body) {
  try {
    body();
    return 1;
  } catch (...) {
    return 0;
  }
}

}  // namespace

extern "C" {
int fidkit_integer_product(int mode, const float* x, int64_t stride, int64_t count, const Packed* weight, float* out,
                           int threads);
int fidkit_integer_encode(int mode, const Encoder* encoder, int threads);
int fidkit_integer_project_context(int mode, int type, const CrossContext* context, int threads);
}

#if !defined(FIDKIT_HALF) || FIDKIT_HALF == 1
extern "C" {
int fidkit_integer_product(int mode, const float* x, int64_t stride, int64_t count, const Packed* weight, float* out,
                           int threads) {
  const auto of = [&](auto slot) { product<decltype(slot)>(x, stride, count, *weight, out, threads); };
  return has_room([&] { mode == INT16_ACTIVATIONS ? of(int16_t{}) : of(int8_t{}); });
}

int fidkit_integer_encode(int mode, const Encoder* encoder, int threads) {
  const auto of = [&](auto slot) { EncoderRun<decltype(slot)>(*encoder, threads)(); };
  return has_room([&] { mode == INT16_ACTIVATIONS ? of(int16_t{}) : of(int8_t{}); });
}

int fidkit_integer_project_context(int mode, int type, const CrossContext* context, int threads) {
  const auto of = [&](auto slot) {
    using T = decltype(slot);
    type == BFLOAT16 ? project_context<T, bfloat16>(*context, threads) : project_context<T, float>(*context, threads);
  };
  return has_room([&] { mode == INT16_ACTIVATIONS ? of(int16_t{}) : of(int8_t{}); });
}
}
#endif

#if !defined(FIDKIT_HALF) || FIDKIT_HALF == 0
// `type` below: see `Type`. Kernels return 1, or 0 where memory ran out; what they write is then of no use.
extern "C" {

int fidkit_version() { return 7; }

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

int fidkit_row_attention(int type, const void* q, const void* k, const void* v, int64_t stride, void* out,
                         int64_t out_stride, const int64_t* starts, int64_t rows, int64_t heads,
                         int64_t head, const float* bias, int64_t reach, int threads) {
  const auto of = [&](auto element) {
    using T = decltype(element);
    const RowAttention<T> attention{static_cast<const T*>(q), static_cast<const T*>(k), static_cast<const T*>(v),
                                    stride, static_cast<T*>(out), out_stride, starts, heads, head, bias, reach};
    row_attention(attention, rows, threads);
  };
  return has_room([&] { type == BFLOAT16 ? of(bfloat16{}) : of(float{}); });
}

int fidkit_add_norm(int type, float* states, const void* change, const float* weight, float epsilon,
                    void* out, int64_t rows, int64_t width, int threads) {
  const auto of = [&](auto element) {
    using T = decltype(element);
    add_norm(states, static_cast<const T*>(change), weight, epsilon, static_cast<T*>(out), rows, width, threads);
  };
  return has_room([&] { type == BFLOAT16 ? of(bfloat16{}) : of(float{}); });
}

int fidkit_gated_gelu(int type, const void* gate, const void* inner, void* out, int64_t size, int threads) {
  const auto of = [&](auto element) {
    using T = decltype(element);
    gated_gelu(static_cast<const T*>(gate), static_cast<const T*>(inner), static_cast<T*>(out), size, threads);
  };
  return has_room([&] { type == BFLOAT16 ? of(bfloat16{}) : of(float{}); });
}

// `mode` of the next ones: see `Mode`.
int fidkit_product(int mode, const float* x, int64_t stride, int64_t count, const Packed* weight, float* out,
                   int threads) {
  if (mode != FLOATS) return fidkit_integer_product(mode, x, stride, count, weight, out, threads);
  return has_room([&] { product<float>(x, stride, count, *weight, out, threads); });
}

int fidkit_encode(int mode, const Encoder* encoder, int threads) {
  if (mode != FLOATS) return fidkit_integer_encode(mode, encoder, threads);
  return has_room([&] { EncoderRun<float>(*encoder, threads)(); });
}

int fidkit_pack_context(int type, const void* keys, const void* values, int64_t stride, int64_t count,
                        int64_t groups, int64_t head, int64_t room, void* packed_keys, void* packed_values,
                        int threads) {
  const auto of = [&](auto element) {
    using T = decltype(element);
    pack_context(static_cast<const T*>(keys), static_cast<const T*>(values), stride, count, groups, head, room,
                 static_cast<uint32_t*>(packed_keys), static_cast<uint32_t*>(packed_values), threads);
  };
  return has_room([&] { type == BFLOAT16 ? of(bfloat16{}) : of(float{}); });
}

// `type` is that of the caches; floats are multiplied for caches of floats alone.
int fidkit_project_context(int mode, int type, const CrossContext* context, int threads) {
  if (mode != FLOATS) return fidkit_integer_project_context(mode, type, context, threads);
  return has_room([&] { project_context<float, float>(*context, threads); });
}

int fidkit_decoder_step(int type, const Step* step, int threads) {
  return has_room([&] {
    type == BFLOAT16 ? decoder_step<bfloat16>(*step, threads) : decoder_step<float>(*step, threads);
  });
}
}
#endif
