// Products of many vectors with a weight that was laid out for them once.
//
// A weight [rows, columns] lies as [row / LANES][slot of columns][LANES rows], so that a vector of it meets one
// slot of an activation, and a sum needs no step across a vector. It is filled up with 0 to whole vectors and
// slots; what an activation has there may be anything, therefore.
//
// Weights of 8 bits meet activations of 16 or of 8, and each activation vector has a unit of its own. With 16 it is
// as small as it can be while no sum overflows whatever the weights: 13 bits are left for 2,000 columns, and
// answers stay what they were. With 8 a product is twice as fast on a CPU that has an instruction for it, a third
// elsewhere, and some answers change.

#pragma once

#include "vectors.h"

enum Type : int32_t { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2 };

// What products multiply: floats, or weights of 8 bits and activations of as many as the name says.
enum Mode : int32_t { FLOATS = 0, INT16_ACTIVATIONS = 1, INT8_ACTIVATIONS = 2 };

// Read by ctypes: keep in step with the structures of fidkit.native.
extern "C" {
struct Packed {
  const void* weight;   // null where there is none; of 8 bits with 128 added where activations have 8
  const float *scale;   // [rows, whole vectors of them], of integers only
  const float *bias;    // the same, or null
  int64_t rows, columns;
};
}

namespace {

template <class T>
inline int64_t slots_of(int64_t columns) {
  return (columns + Slots<T>::DEPTH - 1) / Slots<T>::DEPTH;
}

// Vectors of activations as slots of T, which is float, int16_t or int8_t.
template <class T>
struct Left {
  std::vector<uint32_t, Aligned<uint32_t>> space;
  std::vector<float> units;      // of integers only, as is
  std::vector<int32_t> offsets;  // what is too much in sums, because weights have an offset
  const uint32_t* slots = nullptr;
  int64_t row = 0;  // slots between a vector and the next

  // Takes `count` vectors of `columns` numbers, `stride` apart. Floats are read where they are.
  template <class From>
  void take(const From* x, int64_t stride, int64_t count, int64_t columns) {
    if constexpr (std::is_same_v<T, float>) {
      slots = reinterpret_cast<const uint32_t*>(x);
      row = stride;
    } else {
      row = slots_of<T>(columns);
      slots = scratch(space, count * row);
      scratch(units, count);
      scratch(offsets, count);
      for (int64_t m = 0; m < count; ++m)
        fill(x + m * stride, columns, reinterpret_cast<T*>(space.data() + m * row), &units[m], &offsets[m]);
    }
  }

 private:
  template <class From>
  static void fill(const From* x, int64_t columns, T* to, float* unit, int32_t* offset) {
    const float most = static_cast<float>(std::min<int64_t>(Slots<T>::MOST, INT32_MAX / (Slots<T>::LARGEST * columns)));
    Floats largest{}, nothing{};
    float rest = 0;
    int64_t i = 0;
    for (; i + LANES <= columns; i += LANES) {
      const Floats value = load_floats(x + i);
      largest = larger(larger(value, -value), largest);
      nothing += value - value;
    }
    float peak = largest_of(largest);
    for (; i < columns; ++i) {
      const float value = widen(x[i]);
      peak = std::max(peak, std::fabs(value));
      rest += value - value;
    }
    // A comparison with what is no number is false and leaves no trace in the peak; a difference does.
    const bool real = sum_of(nothing) + rest == 0;
    *unit = real ? peak / most : std::numeric_limits<float>::quiet_NaN();
    const float inverse = real && peak > 0 ? most / peak : 0;
    const Floats magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    Ints sums{};
    int32_t sum = 0;
    for (i = 0; i + LANES <= columns; i += LANES) {
      const Ints value = (Ints)(load_floats(x + i) * inverse + magic) - (Ints)magic;
      if constexpr (Slots<T>::OFFSET != 0) sums += value;
      store_integers(to + i, value);
    }
    for (; i < columns; ++i) sum += to[i] = static_cast<T>(std::lrint(real ? widen(x[i]) * inverse : 0.0f));
    for (; i < slots_of<T>(columns) * Slots<T>::DEPTH; ++i) to[i] = 0;  // weights that are filled up have an offset
    for (int64_t lane = 0; lane < LANES; ++lane) sum += sums[lane];
    *offset = Slots<T>::OFFSET * sum;
  }
};

// What becomes of a product: it takes the place of what was there, or is added to it.
constexpr auto PUT = [](Floats product, Floats) { return product; };
constexpr auto ADD = [](Floats product, Floats there) { return there + product; };

// out[m * row + n] = what `then` makes of the sum over k of left[m][k] * weight[n][k], plus the bias, and of what is
// there.
template <class T, class Out, class Then>
void multiply(const Left<T>& left, int64_t count, const Packed& a, Out* out, int64_t row, Then then) {
  using Slot = typename Slots<T>::Packed;
  using Sum = typename Slots<T>::Sum;
  const int64_t slots = slots_of<T>(a.columns);
  const Slot* weight = static_cast<const Slot*>(a.weight);
  const auto some = [&](int64_t first, auto V, int64_t m, auto Q) {
    tile<T, Q, V>(
        left.slots + m * left.row, left.row, weight + first * slots * LANES, LANES, slots * LANES, slots,
        [&](int q, int) {
          if constexpr (std::is_same_v<T, int8_t>) return Sum{} - left.offsets[m + q];
          else return Sum{};
        },
        [&](int q, int v, Sum sum) {
          const int64_t n = (first + v) * LANES, here = std::min(LANES, a.rows - n);
          Floats value = __builtin_convertvector(sum, Floats);
          if constexpr (!std::is_same_v<T, float>) value *= left.units[m + q] * load<Floats>(a.scale + n);
          if (a.bias) value += load<Floats>(a.bias + n);
          Out* to = out + (m + q) * row + n;
          if (here == LANES) return store_floats(to, then(value, load_floats(to)));
          Floats there{};
          for (int64_t i = 0; i < here; ++i) there[i] = widen(to[i]);
          value = then(value, there);
          for (int64_t i = 0; i < here; ++i) narrow(value[i], to + i);
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
      multiply(left, here, a, out + m * a.rows, a.rows, PUT);
    }
  }
}

}  // namespace
