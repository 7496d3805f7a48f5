// fidkit's CPU kernels: attention inside rows of an encoder, and one whole step of a decoder.
//
// A plain C interface (the `extern "C"` block at the end) over packed arrays, so that any compiler builds
// it in seconds and ctypes calls it. Every kernel has a counterpart in torch that it is tested against.
//
// One idea carries the attention kernels. All operands are arrays of 32-bit slots: a slot is one float, or
// two neighbouring bfloat16 along the dimension that is summed over. A vector holds LANES slots, and
// `Slots<T>::multiply` adds products slot by slot, so float and bfloat16 share every loop:
//   keys    [key / LANES][slot of the head][LANES keys]   scores of LANES keys without a horizontal sum
//   values  [slot of keys][head width]                    mixtures of a head without a horizontal sum
// Vectors are GCC's, and as wide as the CPU's registers: compilers split wider ones by way of memory.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <utility>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __linux__
#include <sys/mman.h>
#endif
#ifdef __AVX2__
#include <immintrin.h>
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

inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }

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

template <class T>
struct Slots;

template <>
struct Slots<float> {
  static constexpr int64_t DEPTH = 1;  // elements of a slot
  static Floats multiply(Floats sum, Words a, Words b) { return sum + (Floats)a * (Floats)b; }
  static Floats exponential(Floats x) { return ::exponential(x); }
};

template <>
struct Slots<bfloat16> {
  static constexpr int64_t DEPTH = 2;
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
template <int64_t APART = LANES / 2, class Fold>
inline float folded(Floats x, Fold fold) {
  if constexpr (APART == 0)
    return x[0];
  else
    return folded<APART / 2>(fold(x, shuffled(x, x, [](int64_t i) { return i ^ APART; })), fold);
}

inline float sum_of(Floats x) { return folded(x, [](Floats a, Floats b) { return a + b; }); }
inline float largest_of(Floats x) { return folded(x, larger); }

template <class T>
inline Floats gelu(Floats x) {  // the tanh form: x * sigmoid(2 u)
  const Floats u = 0.7978845608f * (x + 0.044715f * x * x * x);
  return x / (1.0f + Slots<T>::exponential(-2.0f * larger(u, broadcast(-43.0f))));
}

// Calls `body` with a compile-time count, 1 to MOST.
template <int MOST, class Body>
inline void with_count(int64_t count, Body body) {
  if constexpr (MOST > 1)
    if (count < MOST) return with_count<MOST - 1>(count, body);
  body(std::integral_constant<int, MOST>{});
}

// sum[q][v] = start(q, v) + sum over d of left[q][d] * right[d][v], for Q rows of slots and V vectors of
// slots; finish(q, v, sum) takes each.
template <class T, int Q, int V, class Start, class Finish>
inline void tile(const uint32_t* left, int64_t left_row, const uint32_t* right, int64_t right_step,
                 int64_t right_vector, int64_t depth, Start start, Finish finish) {
  Floats sum[Q][V];
  UNROLLED for (int q = 0; q < Q; ++q) UNROLLED for (int v = 0; v < V; ++v) sum[q][v] = start(q, v);
  for (int64_t d = 0; d < depth; ++d) {
    Words b[V];
    UNROLLED for (int v = 0; v < V; ++v) b[v] = load<Words>(right + d * right_step + v * right_vector);
    UNROLLED for (int q = 0; q < Q; ++q) {
      const Words a = left[q * left_row + d] - Words{};
      UNROLLED for (int v = 0; v < V; ++v) sum[q][v] = Slots<T>::multiply(sum[q][v], a, b[v]);
    }
  }
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

// Slots of the packed keys, and of the packed values, of `keys` keys of one head.
template <class T>
inline int64_t packed_slots(int64_t keys, int64_t head) {
  return rounded_up(keys, LANES) * head / Slots<T>::DEPTH;
}

// LANES x LANES words, turned around: interleaving rows i and i + LANES / 2 rotates the bits of (row, lane) by
// one.
inline void transpose(Words (&rows)[LANES]) {
  constexpr int64_t HALF = LANES / 2;
  UNROLLED for (int64_t stage = 1; stage < LANES; stage *= 2) {
    Words next[LANES];
    UNROLLED for (int64_t i = 0; i < HALF; ++i) {
      next[2 * i] = shuffled(rows[i], rows[i + HALF], [](int64_t j) { return j / 2 + j % 2 * LANES; });
      next[2 * i + 1] = shuffled(rows[i], rows[i + HALF], [](int64_t j) { return HALF + j / 2 + j % 2 * LANES; });
    }
    UNROLLED for (int64_t i = 0; i < LANES; ++i) rows[i] = next[i];
  }
}

// Rows [keys][head] at a stride -> [key / LANES][slot of the head][LANES keys]; missing keys are 0.
template <class T>
void pack_keys(const T* from, int64_t stride, int64_t keys, int64_t head, uint32_t* to) {
  constexpr int64_t DEPTH = Slots<T>::DEPTH;
  const int64_t slots = head / DEPTH;
  for (int64_t block = 0; block < keys; block += LANES, to += slots * LANES) {
    const int64_t here = std::min(LANES, keys - block);
    int64_t s = 0;
    for (; s + LANES <= slots; s += LANES) {
      Words rows[LANES];
      for (int64_t key = 0; key < LANES; ++key)
        rows[key] = key < here ? load<Words>(from + (block + key) * stride + s * DEPTH) : Words{};
      transpose(rows);
      for (int64_t i = 0; i < LANES; ++i) store(to + (s + i) * LANES, rows[i]);
    }
    for (; s < slots; ++s)
      for (int64_t key = 0; key < LANES; ++key)
        to[s * LANES + key] = key < here ? load<uint32_t>(from + (block + key) * stride + s * DEPTH) : 0;
  }
}

// Rows [keys][head] at a stride -> [slot of keys][head]; missing keys are 0.
inline void pack_values(const float* from, int64_t stride, int64_t keys, int64_t head, uint32_t* to) {
  const int64_t rows = rounded_up(keys, LANES);
  for (int64_t key = 0; key < keys; ++key) std::memcpy(to + key * head, from + key * stride, head * 4);
  std::memset(to + keys * head, 0, (rows - keys) * head * 4);
}

inline void pack_values(const bfloat16* from, int64_t stride, int64_t keys, int64_t head, uint32_t* to) {
  const int64_t rows = rounded_up(keys, LANES);
  for (int64_t key = 0; key < rows; key += 2, to += head) {
    const bfloat16* even = from + key * stride;
    for (int64_t i = 0; i < head; i += LANES) {
      Words pair = key < keys ? widened(even + i) : Words{};
      if (key + 1 < keys) pair |= widened(even + stride + i) << 16;
      store(to + i, pair);
    }
  }
}

// Scores -> weights exp(score - largest) as slots of T; returns their sum. A score of -inf weighs nothing
// that shows.
template <class T>
float softmax(const float* scores, float largest, int64_t width, uint32_t* weights) {
  Floats sum{};
  T* out = reinterpret_cast<T*>(weights);
  for (int64_t i = 0; i < width; i += LANES) {
    const Floats p = Slots<T>::exponential(load<Floats>(scores + i) - largest);
    sum += p;
    store_floats(out + i, p);
  }
  return sum_of(sum);
}

struct Softmax {
  float largest, sum;
};

// Attention of `queries` (at most QUERIES, rows of slots) to packed keys and values; rows of mixtures, not yet
// divided by the sum of their weights. `bias` has a row a query, one float before the next, and may be read up
// to the next LANES keys; null for none.
template <class T>
void attend(const uint32_t* query, int64_t query_row, int64_t queries, const uint32_t* keys,
            const uint32_t* values, int64_t count, int64_t head, const float* bias, float* scores,
            uint32_t* weights, Softmax* softmaxes, float* out, int64_t out_row) {
  constexpr int64_t DEPTH = Slots<T>::DEPTH;
  const int64_t slots = head / DEPTH, width = rounded_up(count, LANES), weight_row = width / DEPTH;
  const Floats nothing = broadcast(-std::numeric_limits<float>::infinity());
  Floats lane;
  for (int i = 0; i < LANES; ++i) lane[i] = i;
  with_count<QUERIES>(queries, [&](auto Q) {
    Floats most[Q];
    for (int q = 0; q < Q; ++q) most[q] = nothing;
    in_parts(width / LANES, [&](int64_t first, auto V) {
      const int64_t from = first * LANES;
      tile<T, Q, V>(
          query, query_row, keys + from * slots, LANES, slots * LANES, slots,
          [&](int q, int v) { return bias ? load<Floats>(bias + from + v * LANES - q) : Floats{}; },
          [&](int q, int v, Floats sum) {
            const int64_t left = count - from - v * LANES;
            if (left < LANES) sum = lane < static_cast<float>(left) ? sum : nothing;
            store(scores + q * width + from + v * LANES, sum);
            most[q] = larger(sum, most[q]);
          });
    });
    for (int q = 0; q < Q; ++q) {
      const float largest = largest_of(most[q]);
      softmaxes[q] = {largest, softmax<T>(scores + q * width, largest, width, weights + q * weight_row)};
    }
    in_parts(head / LANES, [&](int64_t first, auto V) {
      tile<T, Q, V>(
          weights, weight_row, values + first * LANES, head, LANES, (count + DEPTH - 1) / DEPTH,
          [](int, int) { return Floats{}; },
          [&](int q, int v, Floats sum) { store(out + q * out_row + (first + v) * LANES, sum); });
    });
  });
}

template <class V>
V* scratch(std::vector<V>& space, int64_t size) {
  if (static_cast<int64_t>(space.size()) < size) space.resize(size);
  return space.data();
}

// Encoder: every row attends to itself.
template <class T>
void row_attention(const T* q, const T* k, const T* v, int64_t stride, T* out, int64_t out_stride,
                   const int64_t* starts, int64_t rows, int64_t heads, int64_t head, const float* bias,
                   int64_t reach, int threads) {
#pragma omp parallel num_threads(threads)
  {
    static thread_local std::vector<uint32_t> key_space, value_space, query_space, weight_space;
    static thread_local std::vector<float> score_space, mix_space, bias_space;
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < rows * heads; ++task) {
      const int64_t row = task / heads, h = task % heads, first = starts[row];
      const int64_t count = starts[row + 1] - first, width = rounded_up(count, LANES);
      const int64_t slots = head / Slots<T>::DEPTH;
      if (!count) continue;
      uint32_t* keys = scratch(key_space, packed_slots<T>(count, head));
      uint32_t* values = scratch(value_space, packed_slots<T>(count, head));
      uint32_t* query = scratch(query_space, QUERIES * slots);
      uint32_t* weights = scratch(weight_space, QUERIES * width);
      float* scores = scratch(score_space, QUERIES * width);
      float* mixed = scratch(mix_space, QUERIES * head);
      const int64_t offset = first * stride + h * head;
      pack_keys(k + offset, stride, count, head, keys);
      pack_values(v + offset, stride, count, head, values);
      // bias[h][reach - 1 + key - query], so a later query starts one float earlier; as much of it as this row
      // needs, with room behind it for keys that only fill a vector.
      float* near = scratch(bias_space, 2 * count + LANES);
      std::memcpy(near, bias + h * (2 * reach - 1) + reach - count, (2 * count - 1) * sizeof(float));
      for (int64_t i = 0; i < count; i += QUERIES) {
        const int64_t here = std::min<int64_t>(QUERIES, count - i);
        for (int64_t j = 0; j < here; ++j)
          std::memcpy(query + j * slots, q + offset + (i + j) * stride, slots * sizeof(uint32_t));
        Softmax softmaxes[QUERIES];
        attend<T>(query, slots, here, keys, values, count, head, near + count - 1 - i, scores, weights, softmaxes,
                  mixed, head);
        for (int64_t j = 0; j < here; ++j)
          for (int64_t d = 0; d < head; d += LANES)
            store_floats(out + (first + i + j) * out_stride + h * head + d,
                         load<Floats>(mixed + j * head + d) / softmaxes[j].sum);
      }
    }
  }
}

// states += change; out = states / rms(states) * weight. `change` may be null.
template <class T>
void add_norm(float* states, const T* change, const float* weight, float epsilon, T* out, int64_t rows,
              int64_t width, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t row = 0; row < rows; ++row) {
    float* x = states + row * width;
    Floats squares{};
    float rest = 0;
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) {
      Floats value = load<Floats>(x + i);
      if (change) {
        value += load_floats(change + row * width + i);
        store(x + i, value);
      }
      squares += value * value;
    }
    for (; i < width; ++i) {
      if (change) x[i] += widen(change[row * width + i]);
      rest += x[i] * x[i];
    }
    if (!out) continue;
    const float scale = 1.0f / std::sqrt((sum_of(squares) + rest) / width + epsilon);
    for (i = 0; i + LANES <= width; i += LANES)
      store_floats(out + row * width + i, load<Floats>(x + i) * scale * load<Floats>(weight + i));
    for (; i < width; ++i) narrow(x[i] * scale * weight[i], out + row * width + i);
  }
}

// out = gelu(gate) * inner, element by element.
template <class T>
void gated_gelu(const T* gate, const T* inner, T* out, int64_t size, int threads) {
  const int64_t whole = size / LANES;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < whole; ++i)
    store_floats(out + i * LANES, gelu<T>(load_floats(gate + i * LANES)) * load_floats(inner + i * LANES));
  for (int64_t i = whole * LANES; i < size; ++i)
    narrow(gelu<T>(broadcast(widen(gate[i])))[0] * widen(inner[i]), out + i);
}

// ---- Decoder ------------------------------------------------------------------------------------------

enum Type : int32_t { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2 };

}  // namespace

// Read by ctypes: keep in step with the structures of fidkit.native.
extern "C" {
struct Linear {
  const void* weight;  // [rows, columns]
  const float* scale;  // [rows], int8 only
  int64_t rows, columns;
  int64_t type;
};

struct Layer {
  const float *self_norm, *cross_norm, *feed_forward_norm;
  Linear query, key, value, out;
  Linear cross_query, cross_out;  // weight is null in a layer without cross-attention
  Linear gate, inner, feed_forward_out;  // gate.weight is null in T5 v1.0's feed-forward
  const void *cross_keys, *cross_values;  // packed, [questions, groups, packed slots]
};

struct Step {
  int64_t rows, beams;  // rows = questions * beams
  int64_t width, heads, head, self_groups, cross_groups, feed_forward;
  int64_t position, capacity;  // tokens before this one; room in the self-attention caches
  int64_t context;             // keys that every question has room for, a multiple of LANES
  const int64_t* lengths;      // [questions], keys that are real
  int64_t layers;
  const Layer* layer;
  void *self_keys, *self_values;  // [layers, rows, groups, capacity, head]
  const float* self_bias;         // [heads, capacity], by distance into the past
  const float* final_norm;
  Linear head_linear;
  float head_scale, epsilon;
  float* states;  // [rows, width], the embedded tokens; overwritten
  float* logits;  // [rows, vocabulary]
};
}

namespace {

struct Team {
  int id, size;

  // This thread's part of n items, whole groups of `grain`.
  void share(int64_t n, int64_t grain, int64_t* begin, int64_t* end) const {
    const int64_t groups = (n + grain - 1) / grain;
    *begin = std::min(n, groups * id / size * grain);
    *end = std::min(n, groups * (id + 1) / size * grain);
  }

  void wait() const {
#pragma omp barrier
  }
};

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

// Activations in both forms that weights want: float for float and int8 weights, bfloat16 for bfloat16.
struct Activations {
  std::vector<float, Aligned<float>> floats;
  std::vector<bfloat16, Aligned<bfloat16>> halves;

  void resize(int64_t size) {
    floats.resize(size);
    halves.resize(size);
  }
  void set(int64_t at, float value) {
    floats[at] = value;
    narrow(value, &halves[at]);
  }
};

template <class W>
struct Weights;

template <>
struct Weights<float> {
  static constexpr int64_t STEP = LANES;
  static const float* input(const Activations& x) { return x.floats.data(); }
  static Floats multiply(Floats sum, const float* w, const float* x) {
    return sum + load<Floats>(w) * load<Floats>(x);
  }
};

template <>
struct Weights<bfloat16> {
  static constexpr int64_t STEP = 2 * LANES;
  static const bfloat16* input(const Activations& x) { return x.halves.data(); }
  static Floats multiply(Floats sum, const bfloat16* w, const bfloat16* x) {
    return Slots<bfloat16>::multiply(sum, load<Words>(w), load<Words>(x));
  }
};

template <>
struct Weights<int8_t> {
  static constexpr int64_t STEP = LANES;
  static const float* input(const Activations& x) { return x.floats.data(); }
  static Floats multiply(Floats sum, const int8_t* w, const float* x) {
    return sum + __builtin_convertvector(widened(w), Floats) * load<Floats>(x);
  }
};

inline float value_of(float x) { return x; }
inline float value_of(bfloat16 x) { return widen(x); }
inline float value_of(int8_t x) { return x; }

// Where products go: out[m * row + n], on top of what is there if `add`.
struct Target {
  float* out;
  int64_t row;
  bool add = false;
  float scale = 1;
};

// Lane i of the result is the sum of x[i]: vectors are folded in pairs, each pair into one.
template <int64_t COUNT = LANES / 2>
inline Floats sums_of(Floats (&x)[LANES]) {
  constexpr auto low = [](int64_t i) { return i + (i & COUNT ? LANES - COUNT : 0); };
  constexpr auto high = [](int64_t i) { return i + (i & COUNT ? LANES : COUNT); };
  UNROLLED for (int64_t i = 0; i < COUNT; ++i)
    x[i] = shuffled(x[i], x[i + COUNT], low) + shuffled(x[i], x[i + COUNT], high);
  if constexpr (COUNT > 1)
    return sums_of<COUNT / 2>(x);
  else
    return x[0];
}

constexpr int ACTIVATIONS = LANES / 2;  // rows of activations whose sums with two rows of weights fill one vector

// Products of R weight rows with M activation rows. The weight rows stand `apart` rows from one another.
template <class W, int R, int M>
void dot_rows(const Linear& a, const decltype(Weights<W>::input(Activations{})) x, int64_t n, int64_t apart,
              int64_t m, const Target& to) {
  constexpr int64_t STEP = Weights<W>::STEP;
  constexpr int PARTS = M > 1 ? 1 : 2;  // a sum that waits for its last product is slower than memory
  const W* weight = static_cast<const W*>(a.weight) + n * a.columns;
  Floats sum[LANES] = {};
  int64_t k = 0;
  for (; k + PARTS * STEP <= a.columns; k += PARTS * STEP)
    UNROLLED for (int part = 0; part < PARTS; ++part)
      UNROLLED for (int r = 0; r < R; ++r)
        UNROLLED for (int i = 0; i < M; ++i) {
          Floats& into = sum[(part * R + r) * M + i];
          into = Weights<W>::multiply(into, weight + r * apart * a.columns + k + part * STEP,
                                      x + (m + i) * a.columns + k + part * STEP);
        }
  const Floats sums = sums_of(sum);
  UNROLLED for (int r = 0; r < R; ++r)
    UNROLLED for (int i = 0; i < M; ++i) {
      const int64_t row = n + r * apart;
      float total = sums[r * M + i] + (PARTS > 1 ? sums[(R + r) * M + i] : 0);
      for (int64_t j = k; j < a.columns; ++j)
        total += value_of(weight[r * apart * a.columns + j]) * value_of(x[(m + i) * a.columns + j]);
      total *= a.scale ? a.scale[row] * to.scale : to.scale;
      float* cell = to.out + (m + i) * to.row + row;
      *cell = to.add ? *cell + total : total;
    }
}

// Two streams far apart read memory as fast as it goes: one alone, neighbouring rows side by side, and
// prefetched rows were all measured to be slower, by 10 to 30 %.
template <class W>
void linear_of(const Linear& a, const Activations& activations, int64_t rows, int64_t begin, int64_t end,
               const Target& to) {
  const auto* x = Weights<W>::input(activations);
  const int64_t half = (end - begin) / 2;
  const auto with_rows = [&](int64_t n, auto R) {
    for (int64_t m = 0; m < rows; m += ACTIVATIONS)
      with_count<ACTIVATIONS>(std::min<int64_t>(ACTIVATIONS, rows - m), [&](auto M) { dot_rows<W, R, M>(a, x, n, half, m, to); });
  };
  for (int64_t n = begin; n < begin + half; ++n) with_rows(n, std::integral_constant<int, 2>{});
  if ((end - begin) % 2) with_rows(end - 1, std::integral_constant<int, 1>{});
}

// The weight rows [begin, end) times all activation rows.
inline void linear(const Linear& a, const Activations& x, int64_t rows, int64_t begin, int64_t end,
                   const Target& to) {
  switch (a.type) {
    case FLOAT32: return linear_of<float>(a, x, rows, begin, end, to);
    case BFLOAT16: return linear_of<bfloat16>(a, x, rows, begin, end, to);
    default: return linear_of<int8_t>(a, x, rows, begin, end, to);
  }
}

// What the threads of a step share.
template <class T>
struct Shared {
  Activations mixed, hidden;
  std::vector<float> gate, inner;
  std::vector<T> query;
  std::vector<float> part;  // [row, head, chunk, head width] mixtures
  std::vector<Softmax> softmaxes;
  int64_t chunks;

  explicit Shared(const Step& s) : chunks(std::max<int64_t>(1, (s.context + CHUNK - 1) / CHUNK)) {
    mixed.resize(s.rows * s.heads * s.head);
    hidden.resize(s.rows * s.feed_forward);
    gate.resize(s.rows * s.feed_forward);
    inner.resize(s.rows * s.feed_forward);
    query.resize(s.rows * s.heads * s.head);
    part.resize(s.rows * s.heads * chunks * s.head);
    softmaxes.resize(s.rows * s.heads * chunks);
  }
};

// One thread's view of a step. Each thread normalises for itself: that is cheaper than waiting.
template <class T>
class ThreadView {
 public:
  ThreadView(const Step& step, Shared<T>& shared, Team team) : s(step), all(shared), team(team) {
    normed.resize(s.rows * s.width);
    projected.resize(s.rows * s.heads * s.head);
  }

  void run() {
    for (int64_t number = 0; number < s.layers; ++number) {
      const Layer& layer = s.layer[number];
      attend_to_past(layer, number);
      if (layer.cross_query.weight) attend_to_context(layer);
      feed_forward(layer);
    }
    normalise(s.final_norm);
    int64_t begin, end;
    team.share(s.head_linear.rows, 4, &begin, &end);
    linear(s.head_linear, normed, s.rows, begin, end, {s.logits, s.head_linear.rows, false, s.head_scale});
  }

 private:
  void normalise(const float* weight) {
    for (int64_t m = 0; m < s.rows; ++m) {
      const float* x = s.states + m * s.width;
      float squares = 0;
      Floats vector{};
      int64_t i = 0;
      for (; i + LANES <= s.width; i += LANES) vector += load<Floats>(x + i) * load<Floats>(x + i);
      for (; i < s.width; ++i) squares += x[i] * x[i];
      const float scale = 1.0f / std::sqrt((sum_of(vector) + squares) / s.width + s.epsilon);
      for (i = 0; i < s.width; ++i) normed.set(m * s.width + i, x[i] * scale * weight[i]);
    }
  }

  void attend_to_past(const Layer& layer, int64_t number) {
    normalise(layer.self_norm);
    T* keys = static_cast<T*>(s.self_keys) + number * cache_size();
    T* values = static_cast<T*>(s.self_values) + number * cache_size();
    project(layer.query, [&](int64_t m, int64_t n) { return query(m, n); });
    project(layer.key, [&](int64_t m, int64_t n) { return cell(keys, m, n); });
    project(layer.value, [&](int64_t m, int64_t n) { return cell(values, m, n); });
    team.wait();
    int64_t begin, end;
    team.share(s.rows * s.heads, 1, &begin, &end);
    for (int64_t task = begin; task < end; ++task) past_of_head(keys, values, task / s.heads, task % s.heads);
    team.wait();
    add(layer.out, all.mixed);
  }

  int64_t cache_size() const { return s.rows * s.self_groups * s.capacity * s.head; }

  T* query(int64_t m, int64_t n) const { return all.query.data() + m * s.heads * s.head + n; }

  // Where this position's element n = (group, index) of row m goes.
  T* cell(T* cache, int64_t m, int64_t n) const {
    return cache + ((m * s.self_groups + n / s.head) * s.capacity + s.position) * s.head + n % s.head;
  }

  void past_of_head(const T* keys, const T* values, int64_t m, int64_t h) {
    const int64_t group = h / (s.heads / s.self_groups), count = s.position + 1;
    const T* k = keys + (m * s.self_groups + group) * s.capacity * s.head;
    const T* v = values + (m * s.self_groups + group) * s.capacity * s.head;
    const T* q = all.query.data() + (m * s.heads + h) * s.head;
    const int64_t width = rounded_up(count, LANES);
    float* scores = scratch(score_space, width);
    float largest = -std::numeric_limits<float>::infinity();
    for (int64_t j = 0; j < width; ++j) scores[j] = largest;
    for (int64_t j = 0; j < count; ++j) {
      Floats sum{};
      for (int64_t d = 0; d < s.head; d += LANES) sum += load_floats(q + d) * load_floats(k + j * s.head + d);
      scores[j] = sum_of(sum) + s.self_bias[h * s.capacity + s.position - j];
      largest = std::max(largest, scores[j]);
    }
    T* weights = reinterpret_cast<T*>(scratch(weight_space, width));
    const float total = softmax<T>(scores, largest, width, reinterpret_cast<uint32_t*>(weights));
    for (int64_t d = 0; d < s.head; d += LANES) {
      Floats sum{};
      for (int64_t j = 0; j < count; ++j) sum += widen(weights[j]) * load_floats(v + j * s.head + d);
      for (int64_t i = 0; i < LANES; ++i)
        all.mixed.set((m * s.heads + h) * s.head + d + i, sum[i] / total);
    }
  }

  void attend_to_context(const Layer& layer) {
    normalise(layer.cross_norm);
    project(layer.cross_query, [&](int64_t m, int64_t n) { return query(m, n); });
    team.wait();
    const int64_t questions = s.rows / s.beams;
    int64_t begin, end;
    team.share(questions * s.cross_groups * all.chunks, 1, &begin, &end);
    for (int64_t task = begin; task < end; ++task) chunk_of_context(layer, task);
    team.wait();
    team.share(s.rows * s.heads, 1, &begin, &end);
    for (int64_t task = begin; task < end; ++task) merge_chunks(task);
    team.wait();
    add(layer.cross_out, all.mixed);
  }

  // All queries of a question that share a group of keys, on one chunk of them.
  void chunk_of_context(const Layer& layer, int64_t task) {
    const int64_t chunk = task % all.chunks, pair = task / all.chunks;
    const int64_t question = pair / s.cross_groups, group = pair % s.cross_groups;
    const int64_t first = chunk * CHUNK, count = std::min(CHUNK, s.lengths[question] - first);
    const int64_t slots = s.head / Slots<T>::DEPTH, shared = s.heads / s.cross_groups;
    const uint32_t* keys = static_cast<const uint32_t*>(layer.cross_keys) + (pair * s.context + first) * slots;
    const uint32_t* values =
        static_cast<const uint32_t*>(layer.cross_values) + (pair * s.context + first) * slots;
    uint32_t* weights = scratch(weight_space, QUERIES * CHUNK);
    float* scores = scratch(score_space, QUERIES * CHUNK);
    for (int64_t beam = 0; beam < s.beams; ++beam)
      for (int64_t i = 0; i < shared; i += QUERIES) {
        const int64_t here = std::min<int64_t>(QUERIES, shared - i);
        const int64_t query = (question * s.beams + beam) * s.heads + group * shared + i;
        Softmax softmaxes[QUERIES];
        if (count > 0)
          attend<T>(reinterpret_cast<const uint32_t*>(all.query.data()) + query * slots, slots, here, keys,
                    values, count, s.head, nullptr, scores, weights, softmaxes,
                    all.part.data() + (query * all.chunks + chunk) * s.head, all.chunks * s.head);
        for (int64_t j = 0; j < here; ++j)
          all.softmaxes[(query + j) * all.chunks + chunk] =
              count > 0 ? softmaxes[j] : Softmax{-std::numeric_limits<float>::infinity(), 0};
      }
  }

  void merge_chunks(int64_t query) {
    const Softmax* soft = all.softmaxes.data() + query * all.chunks;
    const float* part = all.part.data() + query * all.chunks * s.head;
    float largest = soft[0].largest;
    for (int64_t c = 1; c < all.chunks; ++c) largest = std::max(largest, soft[c].largest);
    float sum = 0;
    for (int64_t c = 0; c < all.chunks; ++c) sum += soft[c].sum ? soft[c].sum * std::exp(soft[c].largest - largest) : 0;
    for (int64_t d = 0; d < s.head; ++d) {
      float mixture = 0;
      for (int64_t c = 0; c < all.chunks; ++c)
        if (soft[c].sum) mixture += part[c * s.head + d] * std::exp(soft[c].largest - largest);
      all.mixed.set(query * s.head + d, mixture / sum);
    }
  }

  void feed_forward(const Layer& layer) {
    normalise(layer.feed_forward_norm);
    int64_t begin, end;
    team.share(s.feed_forward, LANES, &begin, &end);
    linear(layer.inner, normed, s.rows, begin, end, {all.inner.data(), s.feed_forward});
    if (layer.gate.weight) linear(layer.gate, normed, s.rows, begin, end, {all.gate.data(), s.feed_forward});
    for (int64_t m = 0; m < s.rows; ++m)
      for (int64_t n = begin; n < end; ++n) {
        const int64_t at = m * s.feed_forward + n;
        all.hidden.set(at, layer.gate.weight ? all.inner[at] : std::max(0.0f, all.inner[at]));
      }
    if (layer.gate.weight) multiply_by_gelu(begin, end);
    team.wait();
    add(layer.feed_forward_out, all.hidden);
  }

  void multiply_by_gelu(int64_t begin, int64_t end) {
    for (int64_t m = 0; m < s.rows; ++m)
      for (int64_t n = begin; n < end; n += LANES) {
        const int64_t at = m * s.feed_forward + n, here = std::min(LANES, end - n);
        Floats gate{};
        std::memcpy(&gate, &all.gate[at], here * sizeof(float));
        gate = gelu<T>(gate);
        for (int64_t i = 0; i < here; ++i) all.hidden.set(at + i, gate[i] * all.inner[at + i]);
      }
  }

  // Rows of `a` times the normalised states; element n of row m goes to place(m, n).
  template <class Place>
  void project(const Linear& a, Place place) {
    int64_t begin, end;
    team.share(a.rows, 4, &begin, &end);
    linear(a, normed, s.rows, begin, end, {projected.data(), a.rows});
    for (int64_t m = 0; m < s.rows; ++m)
      for (int64_t n = begin; n < end; ++n) narrow(projected[m * a.rows + n], place(m, n));
  }

  // states += a(x)
  void add(const Linear& a, const Activations& x) {
    int64_t begin, end;
    team.share(a.rows, 4, &begin, &end);
    linear(a, x, s.rows, begin, end, {s.states, s.width, true});
    team.wait();
  }

  const Step& s;
  Shared<T>& all;
  const Team team;
  Activations normed;
  std::vector<float> projected, score_space;
  std::vector<uint32_t> weight_space;
};

template <class T>
void decoder_step(const Step& step, int threads) {
  Shared<T> shared(step);
#pragma omp parallel num_threads(threads)
  {
#ifdef _OPENMP
    const Team team{omp_get_thread_num(), omp_get_num_threads()};
#else
    const Team team{0, 1};
#endif
    ThreadView<T>(step, shared, team).run();
  }
}

// Keys or values [keys, groups * head] of one question -> packed, [groups, packed slots of `room` keys].
template <class T>
void pack_context(const T* keys, const T* values, int64_t stride, int64_t count, int64_t groups, int64_t head,
                  int64_t room, uint32_t* packed_keys, uint32_t* packed_values, int threads) {
  const int64_t slots = packed_slots<T>(room, head), blocks = (count + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads)
  for (int64_t block = 0; block < blocks; ++block)
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t first = block * CHUNK, here = std::min(CHUNK, count - first);
      const int64_t from = first * stride + group * head, to = group * slots + packed_slots<T>(first, head);
      pack_keys(keys + from, stride, here, head, packed_keys + to);
      pack_values(values + from, stride, here, head, packed_values + to);
    }
}

}  // namespace

// `type` below: 0 for float32, 1 for bfloat16.
extern "C" {

int fidkit_version() { return 2; }

int fidkit_lanes() { return LANES; }

// 1 if bfloat16 products run in hardware: without it bfloat16 saves bytes but no arithmetic.
int fidkit_has_bfloat16() {
#ifdef __AVX512BF16__
  return 1;
#else
  return 0;
#endif
}

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
  if (type == BFLOAT16)
    row_attention(static_cast<const bfloat16*>(q), static_cast<const bfloat16*>(k),
                  static_cast<const bfloat16*>(v), stride, static_cast<bfloat16*>(out), out_stride, starts,
                  rows, heads, head, bias, reach, threads);
  else
    row_attention(static_cast<const float*>(q), static_cast<const float*>(k), static_cast<const float*>(v),
                  stride, static_cast<float*>(out), out_stride, starts, rows, heads, head, bias, reach,
                  threads);
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
