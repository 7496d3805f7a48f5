// Vectors of numbers, and the one loop that all products share.
//
// All operands are arrays of 32-bit slots: a slot is one float, or two neighbouring bfloat16 or 16-bit integers
// along the dimension that is summed over, or four of 8 bits. A vector holds LANES slots, and `Slots<T>::multiply` adds products
// slot by slot, so all types share every loop. Vectors are GCC's, and as wide as the CPU's registers: compilers
// split wider ones by way of memory.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#ifdef __SSE2__
#include <immintrin.h>
#endif
#ifdef __ARM_NEON
#include <arm_neon.h>
#endif

// Loops over registers: an array of sums lives in registers only if every loop over it is unrolled.
#define UNROLLED _Pragma("GCC unroll 16")

namespace {

#if defined(__AVX512F__)
constexpr int64_t WIDTH = 64;  // bytes of a register
#elif defined(__AVX__)
constexpr int64_t WIDTH = 32;
#else
constexpr int64_t WIDTH = 16;
#endif
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int VECTORS = 4;  // QUERIES x VECTORS accumulators fill the registers, 32 here and 16 elsewhere
#else
constexpr int VECTORS = 2;
#endif
constexpr int QUERIES = 6;
constexpr int64_t LANES = WIDTH / 4;  // slots in a vector
constexpr int64_t CHUNK = 512;        // keys that a thread scores before it mixes their values

typedef float Floats __attribute__((vector_size(WIDTH)));
typedef uint32_t Words __attribute__((vector_size(WIDTH)));
typedef int32_t Ints __attribute__((vector_size(WIDTH)));
typedef int8_t Bytes __attribute__((vector_size(WIDTH / 4)));
typedef int16_t Shorts __attribute__((vector_size(WIDTH / 2)));
typedef uint16_t Halves __attribute__((vector_size(WIDTH / 2)));

struct bfloat16 {
  uint16_t bits;
};

template <class V, class P>
inline V load(const P* from) {
  V out;
  std::memcpy(&out, from, sizeof(V));
  return out;
}

template <class V, class P>
inline void store(P* to, V value) {
  std::memcpy(to, &value, sizeof(V));
}

inline Floats broadcast(float x) { return x - Floats{}; }

inline float widen(float x) { return x; }
inline float widen(bfloat16 x) {
  const uint32_t word = static_cast<uint32_t>(x.bits) << 16;
  return load<float>(&word);
}

// Round to nearest, ties to even, as torch does.
inline void narrow(float x, float* to) { *to = x; }
inline void narrow(float x, bfloat16* to) {
  const uint32_t word = load<uint32_t>(&x);
  to->bits = std::isnan(x) ? 0x7fc0 : static_cast<uint16_t>((word + 0x7fff + ((word >> 16) & 1)) >> 16);
}

inline Words widened(const bfloat16* from) { return __builtin_convertvector(load<Halves>(from), Words); }

inline Ints widened(const int8_t* from) {
#if defined(__AVX512F__)
  return (Ints)_mm512_maskz_cvtepi8_epi32(0xffff, load<__m128i>(from));
#elif defined(__AVX2__)
  return (Ints)_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
#else
  // Step by step: compilers convert one by one what becomes four times as wide at once.
  return __builtin_convertvector(__builtin_convertvector(load<Bytes>(from), Shorts), Ints);
#endif
}

inline Floats load_floats(const float* from) { return load<Floats>(from); }
inline Floats load_floats(const bfloat16* from) { return (Floats)(widened(from) << 16); }

inline void store_floats(float* to, Floats x) { store(to, x); }
inline void store_floats(bfloat16* to, Floats x) {
#ifdef __AVX512BF16__
  store(to, _mm512_cvtneps_pbh((__m512)x));
#else
  const Words word = (Words)x, near = (word + 0x7fff + ((word >> 16) & 1)) >> 16;
  store(to, __builtin_convertvector(x == x ? near : 0x7fc0 - Words{}, Halves));
#endif
}

inline void store_integers(int16_t* to, Ints x) { store(to, __builtin_convertvector(x, Shorts)); }
inline void store_integers(int8_t* to, Ints x) {  // step by step, as above
  store(to, __builtin_convertvector(__builtin_convertvector(x, Shorts), Bytes));
}

inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Ints larger(Ints a, Ints b) { return a > b ? a : b; }

// exp(x) as 2^n * polynomial(r), for x up to 88; below -87 as at -87. Relative error below 2e-7.
inline Floats exponential(Floats x) {
  x = larger(x, broadcast(-87.0f));
  const Floats magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Floats shifted = x * 1.44269504f + magic, n = shifted - magic;
  const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Floats p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return (Floats)((Words)p + ((Words)shifted << 23));
}

// The same to 7.5e-5, a twentieth of what rounding to bfloat16 adds.
inline Floats rough_exponential(Floats x) {
  x = larger(x, broadcast(-87.0f)) * 1.44269504f;
  const Floats magic = broadcast(12582912.0f), shifted = x + magic, r = x - (shifted - magic);
  const Floats p = ((0.05517166f * r + 0.24261112f) * r + 0.69326099f) * r + 0.99992807f;
  return (Floats)((Words)p + ((Words)shifted << 23));
}

// What a slot of T is, and how products of slots are summed. `Packed` is a slot of an operand that was laid out
// once: its integers take 8 bits there, and 16 when they are multiplied.
template <class T>
struct Slots;

template <>
struct Slots<float> {
  static constexpr int64_t DEPTH = 1;  // elements of a slot
  using Sum = Floats;
  using Packed = uint32_t;
  static Words loaded(const Packed* from) { return load<Words>(from); }
  static Floats multiply(Floats sum, Words a, Words b) { return sum + (Floats)a * (Floats)b; }
  static Floats exponential(Floats x) { return ::exponential(x); }
};

template <>
struct Slots<bfloat16> {
  static constexpr int64_t DEPTH = 2;
  using Sum = Floats;
  using Packed = uint32_t;
  static Words loaded(const Packed* from) { return load<Words>(from); }
  static Floats multiply(Floats sum, Words a, Words b) {
#ifdef __AVX512BF16__
    return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    sum += (Floats)(a << 16) * (Floats)(b << 16);
    return sum + (Floats)(a & 0xffff0000u) * (Floats)(b & 0xffff0000u);
#endif
  }
  static Floats exponential(Floats x) { return rough_exponential(x); }
};

// Sums of integers are exact. Two products of 16 bits become one sum in a single instruction, which saturates
// nowhere and multiplies twice as much as one of floats does.
template <>
struct Slots<int16_t> {
  static constexpr int64_t DEPTH = 2;
  static constexpr int32_t MOST = 32767, OFFSET = 0;  // the largest activation; what is added to weights
  using Sum = Ints;
  using Packed = uint16_t;
  static Words loaded(const Packed* from) {
#if defined(__AVX512BW__)
    return (Words)_mm512_cvtepi8_epi16(load<__m256i>(from));
#elif defined(__AVX2__)
    return (Words)_mm256_cvtepi8_epi16(load<__m128i>(from));
#else
    const Ints pairs = (Ints)__builtin_convertvector(load<Halves>(from), Words);
    return (Words)((pairs << 24 >> 24 & 0xffff) | (pairs << 16 >> 24 << 16));
#endif
  }
  static Ints multiply(Ints sum, Words a, Words b) {
#if defined(__AVX512VNNI__)
    return (Ints)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif defined(__AVX512BW__)
    return sum + (Ints)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return sum + (Ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__) && !defined(__AVX__)
    return sum + (Ints)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
    sum += ((Ints)(a << 16) >> 16) * ((Ints)(b << 16) >> 16);
    return sum + ((Ints)a >> 16) * ((Ints)b >> 16);
#endif
  }
};

// Weights of 8 bits and activations of 8, four to a slot. Instructions for it multiply unsigned bytes with signed
// ones, so weights are stored with 128 added, and OFFSET times the sum of the activations comes off in the end:
// that is known once for a vector of activations, whatever it meets.
template <>
struct Slots<int8_t> {
  static constexpr int64_t DEPTH = 4;
  using Sum = Ints;
  using Packed = uint32_t;
#if defined(__ARM_FEATURE_DOTPROD) && defined(__aarch64__)
  static constexpr int32_t MOST = 127, OFFSET = 0;  // both signed
  static Words loaded(const Packed* from) { return load<Words>(from) ^ 0x80808080u; }
  static Ints multiply(Ints sum, Words a, Words b) {
    return (Ints)vdotq_s32((int32x4_t)sum, (int8x16_t)a, (int8x16_t)b);
  }
#else
  static Words loaded(const Packed* from) { return load<Words>(from); }
// As assembly, because g++ 12 keeps the sums of the intrinsic in memory when there are many.
#if defined(__AVX512VNNI__)
  static constexpr int32_t MOST = 127, OFFSET = 128;
  static Ints multiply(Ints sum, Words a, Words b) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(b), "v"(a));
    return sum;
  }
#elif defined(__AVXVNNI__)
  static constexpr int32_t MOST = 127, OFFSET = 128;
  static Ints multiply(Ints sum, Words a, Words b) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(b), "x"(a));
    return sum;
  }
// Sums of two products saturate at 16 bits here: 2 * 255 * 64 is the most that they hold.
#elif defined(__AVX512BW__)
  static constexpr int32_t MOST = 64, OFFSET = 128;
  static Ints multiply(Ints sum, Words a, Words b) {
    const __m512i pairs = _mm512_maddubs_epi16((__m512i)b, (__m512i)a);
    return sum + (Ints)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
  }
#elif defined(__AVX2__)
  static constexpr int32_t MOST = 64, OFFSET = 128;
  static Ints multiply(Ints sum, Words a, Words b) {
    const __m256i pairs = _mm256_maddubs_epi16((__m256i)b, (__m256i)a);
    return sum + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  }
#else
  static constexpr int32_t MOST = 127, OFFSET = 128;
  static Ints multiply(Ints sum, Words a, Words b) {  // bytes of even places, then of odd ones
    typedef int16_t Pairs __attribute__((vector_size(WIDTH)));
    const Pairs even = (Pairs)a << 8 >> 8, odd = (Pairs)a >> 8;
    sum = Slots<int16_t>::multiply(sum, (Words)even, b & 0x00ff00ffu);
    return Slots<int16_t>::multiply(sum, (Words)odd, b >> 8 & 0x00ff00ffu);
  }
#endif
#endif
};

// Lane i of the result is lane place(i) of a and b, those of b behind those of a.
template <class V, class Place, size_t... I>
inline V shuffled(V a, V b, Place place, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, place(I)...);
}
template <class V, class Place>
inline V shuffled(V a, V b, Place place) {
  return shuffled(a, b, place, std::make_index_sequence<LANES>{});
}

// Halves folded onto each other: a few steps instead of many that wait for one another.
template <int64_t APART = LANES / 2, class V, class Fold>
inline auto folded(V x, Fold fold) {
  if constexpr (APART == 0)
    return x[0];
  else
    return folded<APART / 2>(fold(x, shuffled(x, x, [](int64_t i) { return i ^ APART; })), fold);
}

template <class V>
inline auto sum_of(V x) { return folded(x, [](V a, V b) { return a + b; }); }
template <class V>
inline auto largest_of(V x) { return folded(x, [](V a, V b) { return larger(a, b); }); }

// The exact form, x * (1 + erf(x / sqrt(2))) / 2; erf to 1.5e-7 (Abramowitz and Stegun, 7.1.26).
inline Floats exact_gelu(Floats x) {
  const Floats z = larger(x, -x) * 0.7071067812f;
  const Floats t = 1.0f / (1.0f + 0.3275911f * z);
  const Floats series = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
  const Floats tail = series * exponential(-z * z);  // 1 - erf(z)
  return 0.5f * x * (x > 0.0f ? 2.0f - tail : tail);
}

// x * (1 + p(x)) / 2, where p is an odd polynomial that reaches 1 at x = 4 and stays there: half the work. Off by at
// most 1.3e-4, and near 0 by a tenth of what rounding to bfloat16 adds.
template <class... C>
inline Floats rough_gelu(Floats x, C... coefficients) {
  const Floats above = larger(x, broadcast(-4.0f)), near = above < 4.0f ? above : broadcast(4.0f);
  const Floats square = near * near, half = 0.5f * x;
  Floats p{};
  ((p = p * square + coefficients), ...);
  return half * (near * p) + half;
}

// With erf(x / sqrt(2)), as BERT has it; of slots of T.
template <class T>
inline Floats erf_gelu(Floats x) {
  if constexpr (std::is_same_v<T, bfloat16>)
    return rough_gelu(x, -2.57887305e-9f, 2.10236839e-7f, -7.45094386e-6f, 1.52756528e-4f, -2.04445764e-3f,
                      1.91703222e-2f, -1.32138621e-1f, 7.97615159e-1f);
  else
    return exact_gelu(x);
}

// With tanh, as T5 has it: x * sigmoid(2 u).
template <class T>
inline Floats gelu(Floats x) {
  if constexpr (std::is_same_v<T, bfloat16>)
    return rough_gelu(x, -3.39774723e-9f, 2.61635876e-7f, -8.76358433e-6f, 1.70203945e-4f, -2.17148875e-3f,
                      1.96461372e-2f, -1.32829562e-1f, 7.97632489e-1f);
  else {
    const Floats u = 0.7978845608f * (x + 0.044715f * x * x * x);
    return x / (1.0f + exponential(-2.0f * larger(u, broadcast(-43.0f))));
  }
}

// Calls `body` with a compile-time count, 1 to MOST.
template <int MOST, class Body>
inline void with_count(int64_t count, Body body) {
  if constexpr (MOST > 1)
    if (count < MOST) return with_count<MOST - 1>(count, body);
  body(std::integral_constant<int, MOST>{});
}

// Vectors of slots, one behind the other, that are brought near while something else is multiplied.
template <class T>
struct Ahead {
  const typename Slots<T>::Packed* from;
  int64_t count;
};

// sum[q][v] = start(q, v) + sum over d of left[q][d] * right[d][v], for Q rows of slots and V vectors of
// slots; finish(q, v, sum) takes each. Both by reference: a copy of what they hold is written in parts and read at
// once, and a CPU waits for that as long as a twentieth of the products takes. `ahead` has at most `depth` vectors.
template <class T, int Q, int V, class Start, class Finish>
inline void tile(const uint32_t* left, int64_t left_row, const typename Slots<T>::Packed* right,
                 int64_t right_step, int64_t right_vector, int64_t depth, const Start& start,
                 const Finish& finish, Ahead<T> ahead = {nullptr, 0}) {
  typename Slots<T>::Sum sum[Q][V];
  UNROLLED for (int q = 0; q < Q; ++q) UNROLLED for (int v = 0; v < V; ++v) sum[q][v] = start(q, v);
  const auto add = [&](int64_t d) __attribute__((always_inline)) {
    Words b[V];
    UNROLLED for (int v = 0; v < V; ++v) b[v] = Slots<T>::loaded(right + d * right_step + v * right_vector);
    UNROLLED for (int q = 0; q < Q; ++q) {
      const Words a = load<uint32_t>(left + q * left_row + d) - Words{};  // of any type: copied, not cast
      UNROLLED for (int v = 0; v < V; ++v) sum[q][v] = Slots<T>::multiply(sum[q][v], a, b[v]);
    }
  };
  int64_t d = 0;
  for (; d < ahead.count; ++d) {
    __builtin_prefetch(ahead.from + d * LANES);
    add(d);
  }
  for (; d < depth; ++d) add(d);
  UNROLLED for (int q = 0; q < Q; ++q) UNROLLED for (int v = 0; v < V; ++v) finish(q, v, sum[q][v]);
}

// Calls body(first, count) for parts of `vectors` of nearly one size, at most VECTORS: a part of one vector
// would wait for its own sums.
template <class Body>
inline void in_parts(int64_t vectors, Body body) {
  for (int64_t v = 0, parts = (vectors + VECTORS - 1) / VECTORS; parts; --parts) {
    const int64_t count = (vectors - v + parts - 1) / parts;
    with_count<VECTORS>(count, [&](auto V) { body(v, V); });
    v += count;
  }
}

inline int64_t rounded_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

template <class V, class A>
V* scratch(std::vector<V, A>& space, int64_t size) {
  if (static_cast<int64_t>(space.size()) < size) space.resize(size);
  return space.data();
}

// Whole cache lines: a vector that lies across two of them is read twice.
template <class V>
struct Aligned {
  using value_type = V;
  Aligned() = default;
  template <class U>
  Aligned(const Aligned<U>&) {}
  V* allocate(size_t n) { return static_cast<V*>(::operator new(n * sizeof(V), std::align_val_t(64))); }
  void deallocate(V* at, size_t) { ::operator delete(at, std::align_val_t(64)); }
  bool operator==(const Aligned&) const { return true; }
  bool operator!=(const Aligned&) const { return false; }
};

}  // namespace
