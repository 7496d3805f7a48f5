// Products of many vectors with a weight that was laid out for them once.
//
// A weight [rows, columns] lies as [row / LANES][slot of columns][LANES rows], so that a vector of it meets one
// slot of an activation, and a sum needs no step across a vector. It is filled up with 0 to whole vectors and
// slots; what an activation has there may be anything, therefore.
//
// Weights of 8 bits meet activations of 16: with 8 bits on both sides a product would be a third faster on a CPU
// that has no instruction for it, but answers would change. Each activation vector has a unit of its own, as
// small as it can be while no sum overflows whatever the weights: 13 bits are left for 2,000 columns.

#pragma once

#include "vectors.h"

enum Type : int32_t { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2 };

// Read by ctypes: keep in step with the structures of fidkit.native.
extern "C" {
struct Packed {
  const void* weight;   // null where there is none
  const float *scale;   // [rows, whole vectors of them], int8 only
  const float *bias;    // the same, or null
  int64_t rows, columns;
};
}

namespace {

template <class T>
inline int64_t slots_of(int64_t columns) {
  return (columns + Slots<T>::DEPTH - 1) / Slots<T>::DEPTH;
}

// Vectors of activations as slots of T, which is float or int16_t.
template <class T>
struct Left {
  std::vector<uint32_t, Aligned<uint32_t>> space;
  std::vector<float> units;  // of integers only
  const uint32_t* slots = nullptr;
  int64_t row = 0;  // slots between a vector and the next

  // Takes `count` vectors of `columns` numbers, `stride` apart. Floats are read where they are.
  void take(const float* x, int64_t stride, int64_t count, int64_t columns) {
    if constexpr (std::is_same_v<T, float>) {
      slots = reinterpret_cast<const uint32_t*>(x);
      row = stride;
    } else {
      row = slots_of<T>(columns);
      slots = scratch(space, count * row);
      scratch(units, count);
      for (int64_t m = 0; m < count; ++m)
        fill(x + m * stride, columns, reinterpret_cast<int16_t*>(space.data() + m * row), &units[m]);
    }
  }

 private:
  static void fill(const float* x, int64_t columns, int16_t* to, float* unit) {
    const float most = static_cast<float>(std::min<int64_t>(32767, INT32_MAX / (127 * columns)));
    Floats largest{}, nothing{};
    float rest = 0;
    int64_t i = 0;
    for (; i + LANES <= columns; i += LANES) {
      const Floats value = load<Floats>(x + i);
      largest = larger(larger(value, -value), largest);
      nothing += value - value;
    }
    float peak = largest_of(largest);
    for (; i < columns; ++i) {
      peak = std::max(peak, std::fabs(x[i]));
      rest += x[i] - x[i];
    }
    // A comparison with what is no number is false and leaves no trace in the peak; a difference does.
    const bool real = sum_of(nothing) + rest == 0;
    *unit = real ? peak / most : std::numeric_limits<float>::quiet_NaN();
    const float inverse = real && peak > 0 ? most / peak : 0;
    const Floats magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    for (i = 0; i + LANES <= columns; i += LANES)
      store(to + i, __builtin_convertvector((Ints)(load<Floats>(x + i) * inverse + magic) - (Ints)magic, Shorts));
    for (; i < columns; ++i) to[i] = static_cast<int16_t>(std::lrint(real ? x[i] * inverse : 0.0f));
  }
};

// out[m * row + n] (+)= the sum over k of left[m][k] * weight[n][k], plus the bias.
template <class T>
void multiply(const Left<T>& left, int64_t count, const Packed& a, float* out, int64_t row, bool add) {
  using Slot = typename Slots<T>::Packed;
  const int64_t slots = slots_of<T>(a.columns);
  const Slot* weight = static_cast<const Slot*>(a.weight);
  const auto some = [&](int64_t first, auto V, int64_t m, auto Q) {
    tile<T, Q, V>(
        left.slots + m * left.row, left.row, weight + first * slots * LANES, LANES, slots * LANES, slots,
        [](int, int) { return typename Slots<T>::Sum{}; },
        [&](int q, int v, typename Slots<T>::Sum sum) {
          const int64_t n = (first + v) * LANES, here = std::min(LANES, a.rows - n);
          Floats value = __builtin_convertvector(sum, Floats);
          if constexpr (std::is_same_v<T, int16_t>) value *= left.units[m + q] * load<Floats>(a.scale + n);
          if (a.bias) value += load<Floats>(a.bias + n);
          float* to = out + (m + q) * row + n;
          if (here == LANES) return store(to, add ? load<Floats>(to) + value : value);
          for (int64_t i = 0; i < here; ++i) to[i] = add ? to[i] + value[i] : value[i];
        });
  };
  in_parts((a.rows + LANES - 1) / LANES, [&](int64_t first, auto V) {
    int64_t m = 0;
    for (; m + QUERIES <= count; m += QUERIES) some(first, V, m, std::integral_constant<int, QUERIES>{});
    for (; m < count; ++m) some(first, V, m, std::integral_constant<int, 1>{});
  });
}

// Vectors that a thread takes at a time: few enough to stay in its cache, and that all threads have some.
inline int64_t block_of(int64_t count, int threads) {
  return std::clamp<int64_t>(rounded_up(count / (4 * threads), QUERIES), QUERIES, 8 * QUERIES);
}

// out [count, rows] = x [count, columns] times the weight, plus its bias.
template <class T>
void product(const float* x, int64_t stride, int64_t count, const Packed& a, float* out, int threads) {
  const int64_t block = block_of(count, threads);
#pragma omp parallel num_threads(threads)
  {
    Left<T> left;
#pragma omp for schedule(dynamic, 1)
    for (int64_t m = 0; m < count; m += block) {
      const int64_t here = std::min(block, count - m);
      left.take(x + m * stride, stride, here, a.columns);
      multiply(left, here, a, out + m * a.rows, a.rows, false);
    }
  }
}

}  // namespace
