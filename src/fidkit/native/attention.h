// Attention of queries to packed keys and values:
//   keys    [key / LANES][slot of the head][LANES keys]   scores of LANES keys without a horizontal sum
//   values  [slot of keys][head width]                    mixtures of a head without a horizontal sum

#pragma once

#include "threads.h"
#include "vectors.h"

namespace {

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

// Attention of `queries` (at most QUERIES, rows of slots) to packed keys and values; put(query, first element,
// mixture) takes what becomes of LANES elements, not yet divided by the sum of their weights. `bias` has a row a
// query, one float before the next, and may be read up to the next LANES keys; null for none.
template <class T, class Put>
void attend(const uint32_t* query, int64_t query_row, int64_t queries, const uint32_t* keys,
            const uint32_t* values, int64_t count, int64_t head, const float* bias, float* scores,
            uint32_t* weights, Softmax* softmaxes, const Put& put) {
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
          [&](int q, int v, Floats sum) { put(q, (first + v) * LANES, sum); });
    });
  });
}

// One head of one row of an encoder, which attends to itself.
template <class T>
struct RowAttention {
  const T *q, *k, *v;   // vectors `stride` apart
  int64_t stride;       // whole slots
  T* out;               // vectors `out_stride` apart
  int64_t out_stride;
  const int64_t* starts;
  int64_t heads, head;
  const float* bias;    // [heads, 2 * reach - 1] by distance, or null
  int64_t reach;

  void operator()(int64_t row, int64_t h) const {
    static thread_local std::vector<uint32_t> key_space, value_space, weight_space;
    static thread_local std::vector<float> score_space, bias_space;
    const int64_t first = starts[row], count = starts[row + 1] - first, width = rounded_up(count, LANES);
    if (!count) return;
    uint32_t* keys = scratch(key_space, packed_slots<T>(count, head));
    uint32_t* values = scratch(value_space, packed_slots<T>(count, head));
    uint32_t* weights = scratch(weight_space, QUERIES * width);
    float* scores = scratch(score_space, QUERIES * width);
    const int64_t offset = first * stride + h * head;
    pack_keys(k + offset, stride, count, head, keys);
    pack_values(v + offset, stride, count, head, values);
    // bias[h][reach - 1 + key - query], so a later query starts one float earlier; as much of it as this row
    // needs, with room behind it for keys that only fill a vector.
    float* near = bias ? scratch(bias_space, 2 * count + LANES) : nullptr;
    if (near) std::memcpy(near, bias + h * (2 * reach - 1) + reach - count, (2 * count - 1) * sizeof(float));
    for (int64_t i = 0; i < count; i += QUERIES) {
      const int64_t here = std::min<int64_t>(QUERIES, count - i);
      T* to = out + (first + i) * out_stride + h * head;
      Softmax softmaxes[QUERIES];
      attend<T>(reinterpret_cast<const uint32_t*>(q + offset + i * stride), stride / Slots<T>::DEPTH, here, keys,
                values, count, head, near ? near + count - 1 - i : nullptr, scores, weights, softmaxes,
                [&](int j, int64_t d, Floats mixture) {
                  store_floats(to + j * out_stride + d, mixture * (1.0f / softmaxes[j].sum));
                });
    }
  }
};

template <class T>
void row_attention(const RowAttention<T>& attention, int64_t rows, int threads) {
  with_threads(threads, [&](const Team& team) {
    team.each(rows * attention.heads,
              [&](int64_t task) { attention(task / attention.heads, task % attention.heads); });
  });
}

}  // namespace
