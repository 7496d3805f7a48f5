// Products of many vectors with a weight that was laid out for them once.
//
// A weight [rows, columns] lies as [row / LANES][slot of columns][LANES rows], so that a vector of it meets one
// slot of an activation, and a sum needs no step across a vector. It is filled up with 0 to whole vectors and
// slots; what an activation has there may be anything, therefore.
//
// Weights of 8 bits meet activations of 16 or of 8, which have a unit for every GROUP columns. With 16, no sum
// overflows whatever the weights, and answers stay what they were. With 8 a product is twice as fast on a CPU that
// has an instruction for it, a third elsewhere, and a few answers change.

#pragma once

#include "threads.h"
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

// Columns of an activation that share a unit. A few activations are much larger than the others, inside T5's
// feed-forwards above all: what stands far from them keeps its bits.
constexpr int64_t GROUP = 256;
template <class T>
constexpr int64_t STEP = GROUP / Slots<T>::DEPTH;  // slots of a group
static_assert(GROUP * 32767 * 128 <= std::numeric_limits<int32_t>::max());

// Vectors of activations as slots of T, which is float, int16_t or int8_t.
template <class T>
struct Left {
  std::vector<uint32_t, Aligned<uint32_t>> space;
  std::vector<float> units;      // of integers only, as is: of each vector, of each of its groups
  std::vector<int32_t> offsets;  // what is too much in sums, because weights have an offset
  std::vector<Floats, Aligned<Floats>> totals;  // of the products that are under way, VECTORS a vector
  const uint32_t* slots = nullptr;
  int64_t row = 0, groups = 1;  // slots between a vector and the next; units of one

  // Takes `count` vectors of `columns` numbers, `stride` apart. Floats are read where they are.
  template <class From>
  void take(const From* x, int64_t stride, int64_t count, int64_t columns) {
    if constexpr (std::is_same_v<T, float>) {
      slots = reinterpret_cast<const uint32_t*>(x);
      row = stride;
    } else {
      row = slots_of<T>(columns);
      groups = (columns + GROUP - 1) / GROUP;
      slots = scratch(space, count * row);
      scratch(units, count * groups);
      scratch(offsets, count * groups);
      for (int64_t m = 0; m < count; ++m)
        for (int64_t g = 0; g < groups; ++g)
          fill(x + m * stride + g * GROUP, std::min(GROUP, columns - g * GROUP),
               reinterpret_cast<T*>(space.data() + m * row) + g * GROUP, &units[m * groups + g],
               &offsets[m * groups + g]);
    }
  }

 private:
  template <class From>
  static void fill(const From* x, int64_t columns, T* to, float* unit, int32_t* offset) {
    constexpr float MOST = Slots<T>::MOST;
    // Without their signs, floats are in the order of their bits, and what is infinite or no number comes last.
    constexpr int32_t UNSIGNED = 0x7fffffff, INFINITE = 0x7f800000;
    Ints most{};
    int64_t i = 0;
    for (; i + LANES <= columns; i += LANES) most = larger(most, (Ints)load_floats(x + i) & UNSIGNED);
    int32_t bits = largest_of(most);
    for (; i < columns; ++i) {
      const float value = widen(x[i]);
      bits = std::max(bits, load<int32_t>(&value) & UNSIGNED);
    }
    const bool real = bits < INFINITE;
    const float peak = load<float>(&bits);
    *unit = real ? peak / MOST : std::numeric_limits<float>::quiet_NaN();
    const float inverse = real && peak > 0 ? MOST / peak : 0;
    const Floats magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    Ints sums{};
    for (i = 0; i + LANES <= columns; i += LANES) {
      const Ints value = (Ints)(load_floats(x + i) * inverse + magic) - (Ints)magic;
      if constexpr (Slots<T>::OFFSET != 0) sums += value;
      store_integers(to + i, value);
    }
    int32_t sum = sum_of(sums);
    for (; i < columns; ++i) sum += to[i] = static_cast<T>(std::lrint(real ? widen(x[i]) * inverse : 0.0f));
    for (; i < slots_of<T>(columns) * Slots<T>::DEPTH; ++i) to[i] = 0;  // weights that are filled up have an offset
    *offset = Slots<T>::OFFSET * sum;
  }
};

// What becomes of a product: it takes the place of what was there, or is added to it.
constexpr auto PUT = [](Floats product, Floats) { return product; };
constexpr auto ADD = [](Floats product, Floats there) { return there + product; };

// A group of V vectors of rows of a weight, of `slots` each, that is multiplied next. It comes nearer in as many parts
// as there are products of the present one, since memory takes longer than any of them: a third of all time is lost
// otherwise where other programs use the memory too.
template <class T>
class Coming {
 public:
  Coming() = default;
  Coming(const typename Slots<T>::Packed* from, int64_t slots, int64_t V, int64_t activations)
      : from(from), slots(slots), left(V * STEP<T>) {
    // Parts are of one vector of rows each, and no more than there are products to fetch them meanwhile.
    while (size % 2 == 0 && 2 * left / size <= activations / QUERIES) size /= 2;
  }

  Ahead<T> part() {
    if (!left) return {nullptr, 0};
    const Ahead<T> next{from + done / STEP<T> * slots * LANES + done % STEP<T> * LANES, size};
    done += size;
    left -= size;
    return next;
  }

 private:
  const typename Slots<T>::Packed* from = nullptr;
  int64_t slots = 0, left = 0, done = 0, size = STEP<T>;  // the last three in vectors of slots
};

// totals[q][v] = (of the first group) or += the products of Q activations, from the m-th on, with V vectors of rows
// of a weight, over the columns of group g; floats have one group. A function of its own, whatever becomes of the
// totals: compilers keep sums in registers where there is little else to keep.
template <class T, int Q, int V>
__attribute__((noinline)) void add_products(const Left<T>& left, int64_t m, int64_t g,
                                            const typename Slots<T>::Packed* weight, int64_t slots,
                                            Floats* totals, Ahead<T> ahead) {
  using Sum = typename Slots<T>::Sum;
  if constexpr (std::is_same_v<T, float>) {
    tile<T, Q, V>(
        left.slots + m * left.row, left.row, weight, LANES, slots * LANES, slots,
        [](int, int) { return Sum{}; }, [&](int q, int v, Sum sum) { totals[q * VECTORS + v] = sum; });
  } else {
    const float* units = &left.units[m * left.groups + g];
    const int32_t* offsets = &left.offsets[m * left.groups + g];
    const int64_t depth = std::min(STEP<T>, slots - g * STEP<T>);
    ahead.count = std::min(ahead.count, depth);
    const auto with = [&](auto then) {
      tile<T, Q, V>(
          left.slots + m * left.row + g * STEP<T>, left.row, weight + g * STEP<T> * LANES, LANES, slots * LANES,
          depth, [&](int q, int) { return Sum{} - offsets[q * left.groups]; },
          [&](int q, int v, Sum sum) {
            then(totals[q * VECTORS + v], __builtin_convertvector(sum, Floats) * units[q * left.groups]);
          },
          ahead);
    };
    if (g) with([](Floats& total, Floats product) { total += product; });
    else with([](Floats& total, Floats product) { total = product; });
  }
}

// out[m * row + n] = what `then` makes of the sum over k of left[m][k] * weight[n][k], plus the bias, and of what is
// there.
template <class T, class Out, class Then>
void multiply(Left<T>& left, int64_t count, const Packed& a, Out* out, int64_t row, Then then) {
  using Slot = typename Slots<T>::Packed;
  const int64_t slots = slots_of<T>(a.columns), groups = left.groups;
  const Slot* weight = static_cast<const Slot*>(a.weight);
  Floats* totals = scratch(left.totals, count * VECTORS);
  const int64_t vectors = (a.rows + LANES - 1) / LANES;
  in_parts(vectors, [&](int64_t first, auto V) {
    const int64_t n = first * LANES;
    Floats scale[V], bias[V];
    for (int v = 0; v < V; ++v) {
      if constexpr (!std::is_same_v<T, float>) scale[v] = load<Floats>(a.scale + n + v * LANES);
      bias[v] = a.bias ? load<Floats>(a.bias + n + v * LANES) : Floats{};
    }
    // What becomes of the totals of one activation.
    const auto put = [&](const Floats* total, Out* to) {
      for (int v = 0; v < V; ++v) {
        Floats value = total[v];
        if constexpr (!std::is_same_v<T, float>) value *= scale[v];
        value += bias[v];
        Out* at = to + v * LANES;
        const int64_t here = a.rows - n - v * LANES;
        if (here >= LANES) {
          store_floats(at, then(value, load_floats(at)));
          continue;
        }
        Floats there{};
        for (int64_t i = 0; i < here; ++i) there[i] = widen(at[i]);
        value = then(value, there);
        for (int64_t i = 0; i < here; ++i) narrow(value[i], at + i);
      }
    };
    for (int64_t g = 0; g < groups; ++g) {
      const bool last = g + 1 == groups;
      Coming<T> coming;
      if (!last) coming = {weight + (first * slots + (g + 1) * STEP<T>) * LANES, slots, V, count};
      else if (first + V < vectors) coming = {weight + (first + V) * slots * LANES, slots, V, count};
      const auto some = [&](int64_t m, auto Q) {
        Out* to = out + m * row + n;
        // Where they go comes nearer while the last products are made.
        for (int q = 0; last && q < Q; ++q)
          for (int64_t i = 0; i < V * LANES; i += 64 / static_cast<int64_t>(sizeof(Out)))
            __builtin_prefetch(to + q * row + i, 1);
        add_products<T, Q, V>(left, m, g, weight + first * slots * LANES, slots, totals + m * VECTORS,
                              coming.part());
        for (int q = 0; last && q < Q; ++q) put(totals + (m + q) * VECTORS, to + q * row);
      };
      int64_t m = 0;
      for (; m + QUERIES <= count; m += QUERIES) some(m, std::integral_constant<int, QUERIES>{});
      for (; m < count; ++m) some(m, std::integral_constant<int, 1>{});
    }
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
  with_threads(threads, [&](const Team& team) {
    Left<T> left;
    team.each((count + block - 1) / block, [&](int64_t number) {
      const int64_t m = number * block, here = std::min(block, count - m);
      left.take(x + m * stride, stride, here, a.columns);
      multiply(left, here, a, out + m * a.rows, a.rows, PUT);
    });
  });
}

}  // namespace
