// Random calls of the kernels, each compared with naive.h: `fuzz SEED COUNT [CALLERS]`.
//
// It is built in one with the kernels, with sanitizers (test_sanitizers.py) or any other flags. Call i has the seed
// SEED + i, so `fuzz SEED+i 1` is that call alone. With several callers, as many threads call at once: with the
// weights of one reader, and with inputs, caches and results of their own.
//
// Every buffer is as large as the kernels say and not a number larger, and no number (NaN) is in it where nothing
// was written. Where the kernels take memory of their own, the address sanitizer fills it alike.

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>

#include "kernels.cpp"
#include "naive.h"

// Only the sanitizers have these.
extern "C" {
__attribute__((weak)) void __sanitizer_set_death_callback(void (*)());
const char* __asan_default_options() {
  // All that is taken is filled with 0xff, which is no number, in float and in bfloat16.
  return "malloc_fill_byte=255:max_malloc_fill_size=1000000000:detect_stack_use_after_return=1";
}
const char* __ubsan_default_options() { return "print_stacktrace=1"; }
const char* __tsan_default_options() { return "halt_on_error=1"; }
}

namespace {

std::atomic<uint64_t> seed_now{0};
int callers = 1;

void say_seed() {
  const auto seed = static_cast<unsigned long long>(seed_now);
  std::fprintf(stderr, "this was: fuzz %llu %d %d\n", seed, callers, callers);
}

class Random {
 public:
  explicit Random(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15u + 1) {}

  uint64_t bits() {  // splitmix64
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  int64_t between(int64_t least, int64_t most) {
    return least + static_cast<int64_t>(bits() % static_cast<uint64_t>(most - least + 1));
  }
  bool once_in(int64_t n) { return between(1, n) == 1; }
  template <class V>
  V one_of(std::initializer_list<V> values) {
    return values.begin()[between(0, static_cast<int64_t>(values.size()) - 1)];
  }
  // Of mean 0 and variance 1, never beyond 3.5.
  double normal() {
    double sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<double>(bits() >> 11) / 9007199254740992.0 - 0.5;
    return sum * std::sqrt(3.0);
  }
  // Few as a rule, `most` at times.
  int64_t size(int64_t most) {
    return once_in(4) ? between(1, most) : once_in(6) ? most : between(1, std::min<int64_t>(most, 12));
  }

 private:
  uint64_t state;
};

// Exactly so many elements on the heap, none of them a number.
template <class T>
class Exact {
 public:
  explicit Exact(int64_t size = 0) : size_(size), memory(new T[size]) {
    std::memset(static_cast<void*>(memory.get()), 0xff, size * sizeof(T));
  }
  T* get() const { return memory.get(); }
  T& operator[](int64_t i) const { return memory[i]; }
  int64_t size() const { return size_; }

 private:
  int64_t size_;
  std::unique_ptr<T[]> memory;
};

double value(float x) { return x; }
double value(bfloat16 x) { return widen(x); }

template <class T>
double rounded(double x) {
  T to;
  narrow(static_cast<float>(x), &to);
  return value(to);
}

template <class T>
Exact<T> drawn(Random& random, int64_t size, double scale = 1, double mean = 0) {
  Exact<T> made(size);
  for (int64_t i = 0; i < size; ++i) narrow(static_cast<float>(mean + scale * random.normal()), &made[i]);
  return made;
}

template <class T>
constexpr int type_of() {
  return std::is_same_v<T, bfloat16> ? BFLOAT16 : FLOAT32;
}

template <class T>
constexpr double tolerance() {
  return std::is_same_v<T, bfloat16> ? 2e-2 : 3e-5;
}

// --- Compared ---

std::mutex figures;
std::map<std::string, double> furthest;  // error, as a part of what is tolerated

void fail(const std::string& what) {
  std::fprintf(stderr, "wrong: %s\n", what.c_str());
  say_seed();
  std::_Exit(3);
}

class Compared {
 public:
  Compared(const std::string& what, double tolerance) : what(what), tolerance(tolerance) {}

  void add(double found, double wanted) {
    ++count;
    largest = std::max(largest, std::fabs(wanted));
    const double apart = std::fabs(found - wanted);
    if (!(apart <= error)) error = apart, worst = count - 1;  // also if it is no number
    if (apart != apart) fail(what + ": no number at " + std::to_string(count - 1));
  }
  ~Compared() {
    const double part = error / (tolerance * (1 + largest));
    if (part > 1)
      fail(what + ": " + std::to_string(error) + " apart at " + std::to_string(worst) + " of " +
           std::to_string(count) + ", the largest is " + std::to_string(largest));
    std::lock_guard<std::mutex> lock(figures);
    furthest[what] = std::max(furthest[what], part);
  }

 private:
  const std::string what;
  const double tolerance;
  double largest = 0, error = 0;
  int64_t count = 0, worst = 0;
};

template <class T>
void compare(const std::string& what, const T* found, const naive::Numbers& wanted, double tolerance) {
  Compared compared(what, tolerance);
  for (size_t i = 0; i < wanted.size(); ++i) compared.add(value(found[i]), wanted[i]);
}

// --- Weights ---

// As products.h has it: [row / LANES][slot of columns][LANES rows], filled up with 0.
class LaidOut {
 public:
  naive::Matrix meant;

  LaidOut() = default;
  LaidOut(Random& random, int64_t rows, int64_t columns, int mode, bool biased, double gain = 1) {
    const bool rounded = mode != FLOATS;
    const int offset = mode == INT8_ACTIVATIONS ? 128 : 0;
    meant.rows = rows, meant.columns = columns;
    const int64_t depth = mode == INT8_ACTIVATIONS ? 4 : rounded ? 2 : 1, up = rounded_up(rows, LANES), slots = (columns + depth - 1) / depth;
    weight = Exact<char>(up * slots * depth * (rounded ? 1 : 4));
    std::memset(weight.get(), offset, weight.size());
    if (rounded) scale = Exact<float>(up);
    if (biased) bias = Exact<float>(up);
    for (int64_t n = 0; n < up; ++n) {
      if (rounded) scale[n] = n < rows ? static_cast<float>(gain / std::sqrt(columns) / 64) : 0;
      if (biased) bias[n] = n < rows ? static_cast<float>(random.normal() / 2) : 0;
      if (n < rows && biased) meant.bias.push_back(bias[n]);
      for (int64_t k = 0; n < rows && k < columns; ++k) {
        const int64_t at = ((n / LANES * slots + k / depth) * LANES + n % LANES) * depth + k % depth;
        if (rounded) {
          const int number = static_cast<int>(random.between(-127, 127));
          weight[at] = static_cast<char>(number + offset);
          meant.values.push_back(static_cast<double>(number) * scale[n]);
        } else {
          const float number = static_cast<float>(random.normal() * gain / std::sqrt(columns));
          std::memcpy(weight.get() + at * 4, &number, 4);
          meant.values.push_back(number);
        }
      }
    }
  }

  Packed packed() const {
    return {weight.size() ? weight.get() : nullptr, scale.size() ? scale.get() : nullptr,
            bias.size() ? bias.get() : nullptr, meant.rows, meant.columns};
  }

 private:
  Exact<char> weight;
  Exact<float> scale, bias;
};

// As decoder.h has it: [rows, columns].
class Plain {
 public:
  naive::Linear meant;

  Plain() = default;
  Plain(Random& random, int64_t rows, int64_t columns, int type, double gain = 1) : type(type) {
    meant.rows = rows, meant.columns = columns;
    meant.sees = type == BFLOAT16 ? naive::to_bfloat16 : naive::to_float;
    weight = Exact<char>(rows * columns * (type == FLOAT32 ? 4 : type == BFLOAT16 ? 2 : 1));
    if (type == INT8) scale = Exact<float>(rows);
    for (int64_t n = 0; n < rows; ++n) {
      if (type == INT8) scale[n] = static_cast<float>(gain / std::sqrt(columns) / 64);
      for (int64_t k = 0; k < columns; ++k) put(random, n, n * columns + k, gain / std::sqrt(columns));
    }
  }

  Linear linear() const {
    return {weight.size() ? weight.get() : nullptr, scale.size() ? scale.get() : nullptr, meant.rows,
            meant.columns, type};
  }

 private:
  void put(Random& random, int64_t row, int64_t at, double gain) {
    if (type == INT8) {
      const int8_t number = static_cast<int8_t>(random.between(-127, 127));
      std::memcpy(weight.get() + at, &number, 1);
      return meant.values.push_back(static_cast<double>(number) * scale[row]);
    }
    const float number = static_cast<float>(random.normal() * gain);
    bfloat16 half;
    narrow(number, &half);
    if (type == FLOAT32) std::memcpy(weight.get() + at * 4, &number, 4);
    else std::memcpy(weight.get() + at * 2, &half, 2);
    meant.values.push_back(type == FLOAT32 ? value(number) : value(half));
  }

  int type = FLOAT32;
  Exact<char> weight;
  Exact<float> scale;
};

Exact<float> norm(Random& random, int64_t width) { return drawn<float>(random, width, 0.2, 1); }

const float* or_null(const Exact<float>& x) { return x.size() ? x.get() : nullptr; }

// Of few numbers the mean square may be next to nothing, and the rest is rounding errors then.
float epsilon_of(int64_t width) { return width < 16 ? 0.1f : 1e-6f; }

int64_t head_width(Random& random) { return random.once_in(3) ? 16 * random.between(1, 8) : 16; }

// A divisor.
int64_t groups_of(Random& random, int64_t heads) {
  int64_t groups;
  do groups = random.between(1, heads);
  while (heads % groups);
  return groups;
}

double of_mode(int mode, double floats, double wide, double narrow) {
  return mode == FLOATS ? floats : mode == INT16_ACTIVATIONS ? wide : narrow * 127 / Slots<int8_t>::MOST;
}

int threads_of(Random& random) { return static_cast<int>(random.between(1, callers > 1 ? 3 : 8)); }

// --- An encoder ---

struct EncoderWeights {
  struct OneLayer {
    LaidOut query_key_value, out, inner, feed_forward_out, gate;
    Exact<float> norms[2], shifts[2];
    naive::EncoderLayer meant;
  };

  int64_t width, heads, head, feed_forward, reach;
  int mode;
  bool gated, behind;
  float epsilon, scale;
  Exact<float> bias, final_norm, final_shift;
  std::vector<OneLayer> layers;
  std::vector<EncoderLayer> pointers;

  explicit EncoderWeights(Random& random)
      : width(random.size(96)),
        heads(random.between(1, 4)),
        head(head_width(random)),
        // Sometimes of several groups of columns that have units of their own.
        feed_forward(random.once_in(6) ? random.between(GROUP - 9, 3 * GROUP) : random.size(130)),
        reach(random.size(70)),
        mode(static_cast<int>(random.between(FLOATS, INT8_ACTIVATIONS))),
        gated(random.once_in(2)),
        behind(random.once_in(2)),
        epsilon(epsilon_of(width)),
        scale(random.once_in(2) ? 1.0f : 1.0f / std::sqrt(static_cast<float>(head))) {
    if (random.once_in(2)) bias = drawn<float>(random, heads * (2 * reach - 1));
    if (random.once_in(2)) {
      final_norm = norm(random, width);
      final_shift = drawn<float>(random, behind ? width : 0);
    }
    const bool biased = random.once_in(2);
    layers.resize(random.once_in(20) ? 0 : random.between(1, 3));
    for (OneLayer& layer : layers) draw(random, layer, biased);
    for (OneLayer& layer : layers)
      pointers.push_back({layer.query_key_value.packed(), layer.out.packed(), layer.inner.packed(),
                          layer.feed_forward_out.packed(), layer.gate.packed(), layer.norms[0].get(),
                          or_null(layer.shifts[0]), layer.norms[1].get(), or_null(layer.shifts[1])});
  }

 private:
  void draw(Random& random, OneLayer& layer, bool biased) {
    const int64_t inside = heads * head;
    // Scores of about 1, so that many keys count.
    const double gain = scale == 1 ? 1 / std::sqrt(std::sqrt(head)) : 1;
    layer.query_key_value = LaidOut(random, 3 * inside, width, mode, biased, gain);
    layer.out = LaidOut(random, width, inside, mode, biased);
    layer.inner = LaidOut(random, feed_forward, width, mode, biased);
    layer.feed_forward_out = LaidOut(random, width, feed_forward, mode, biased);
    if (gated) layer.gate = LaidOut(random, feed_forward, width, mode, biased);
    for (int i = 0; i < 2; ++i) {
      layer.norms[i] = norm(random, width);
      if (behind) layer.shifts[i] = drawn<float>(random, width);
    }
    layer.meant = {layer.query_key_value.meant, layer.out.meant,        layer.inner.meant,
                   layer.feed_forward_out.meant, layer.gate.meant,      layer.norms[0].get(),
                   or_null(layer.shifts[0]),     layer.norms[1].get(),  or_null(layer.shifts[1])};
  }
};

// Rows of 0 to `reach` vectors.
Exact<int64_t> starts_of(Random& random, int64_t reach) {
  const int64_t rows = random.once_in(3) ? 1 : random.between(1, reach > 20 ? 3 : 8);
  Exact<int64_t> starts(rows + 1);
  starts[0] = 0;
  for (int64_t row = 0; row < rows; ++row)
    starts[row + 1] =
        starts[row] + (random.once_in(5) ? 1 : random.once_in(4) ? reach : random.between(0, reach));
  return starts;
}

void call_encoder(const EncoderWeights& weights, Random& random) {
  const Exact<int64_t> starts = starts_of(random, weights.reach);
  const int64_t rows = starts.size() - 1, vectors = starts[rows];
  const Exact<float> states = drawn<float>(random, vectors * weights.width);
  naive::Numbers wanted(states.get(), states.get() + states.size());
  const Encoder encoder{states.get(), starts.get(), rows, weights.width, weights.heads, weights.head,
                        weights.feed_forward, weights.reach, static_cast<int64_t>(weights.layers.size()),
                        weights.pointers.data(), or_null(weights.bias), or_null(weights.final_norm),
                        or_null(weights.final_shift), weights.epsilon, weights.scale, weights.behind};
  fidkit_encode(weights.mode, &encoder, threads_of(random));

  std::vector<const naive::EncoderLayer*> layers;
  for (const auto& layer : weights.layers) layers.push_back(&layer.meant);
  naive::Encoder{{starts.get(), rows, weights.heads, weights.head, or_null(weights.bias), weights.reach},
                 weights.width, layers, or_null(weights.final_norm), or_null(weights.final_shift),
                 weights.epsilon, weights.scale, weights.gated, weights.behind}
      .run(wanted);
  // Activations are rounded, too, where weights are integers.
  const char* names[] = {"encoder", "encoder, int8", "encoder, int8 by int8"};
  compare(names[weights.mode], states.get(), wanted, of_mode(weights.mode, 3e-5, 3e-3, 0.3));
}

// --- What an encoder in bfloat16 is made of ---

template <class T>
void call_row_attention(Random& random) {
  const int64_t heads = random.between(1, 4), head = head_width(random), inside = heads * head;
  const int64_t reach = random.size(70), spare = random.once_in(2) ? 0 : Slots<T>::DEPTH * random.between(1, 9);
  const Exact<int64_t> starts = starts_of(random, reach);
  const int64_t rows = starts.size() - 1, vectors = starts[rows], stride = 3 * inside + spare;
  const bool over = random.once_in(3);  // what comes out over the queries
  // The last vector has nothing behind it.
  const Exact<T> made = drawn<T>(random, vectors ? vectors * stride - spare : 0, std::pow(head, -0.25));
  const Exact<T> apart(over ? 0 : vectors * inside);
  const Exact<float> bias = drawn<float>(random, random.once_in(4) ? 0 : heads * (2 * reach - 1));
  naive::Numbers q, k, v;
  for (int64_t m = 0; m < vectors; ++m)
    for (int64_t i = 0; i < inside; ++i) {
      q.push_back(value(made[m * stride + i]));
      k.push_back(value(made[m * stride + inside + i]));
      v.push_back(value(made[m * stride + 2 * inside + i]));
    }
  T* out = over ? made.get() : apart.get();
  const int64_t out_stride = over ? stride : inside;
  fidkit_row_attention(type_of<T>(), made.get(), made.get() + inside, made.get() + 2 * inside, stride, out,
                       out_stride, starts.get(), rows, heads, head, or_null(bias), reach, threads_of(random));
  const naive::Rows meant{starts.get(), rows, heads, head, or_null(bias), reach};
  const naive::Numbers wanted = meant.attend(q, k, v, rounded<T>);
  Compared compared("row attention", tolerance<T>());
  for (int64_t m = 0; m < vectors; ++m)
    for (int64_t i = 0; i < inside; ++i) compared.add(value(out[m * out_stride + i]), wanted[m * inside + i]);
}

template <class T>
void call_add_norm(Random& random) {
  const int64_t rows = random.size(30), width = random.size(130);
  const bool changed = random.once_in(2), normed = !changed || !random.once_in(4);
  const Exact<float> states = drawn<float>(random, rows * width), weight = norm(random, width);
  const Exact<T> change = drawn<T>(random, changed ? rows * width : 0), out(normed ? rows * width : 0);
  naive::Numbers added(states.get(), states.get() + states.size()), wanted;
  for (int64_t i = 0; i < change.size(); ++i) added[i] += value(change[i]);
  const float epsilon = epsilon_of(width);
  fidkit_add_norm(type_of<T>(), states.get(), changed ? change.get() : nullptr, weight.get(), epsilon,
                  normed ? out.get() : nullptr, rows, width, threads_of(random));
  for (int64_t m = 0; normed && m < rows; ++m)
    for (const double x : naive::rms_norm(&added[m * width], width, weight.get(), epsilon)) wanted.push_back(x);
  compare("sum before a norm", states.get(), added, 1e-6);
  compare("norm", out.get(), wanted, tolerance<T>());
}

template <class T>
void call_gated_gelu(Random& random) {
  const int64_t size = random.size(3000);
  const bool over = random.once_in(2);
  const Exact<T> gate = drawn<T>(random, size, 3), inner = drawn<T>(random, size), apart(over ? 0 : size);
  naive::Numbers wanted;
  for (int64_t i = 0; i < size; ++i) wanted.push_back(naive::tanh_gelu(value(gate[i])) * value(inner[i]));
  T* out = over ? inner.get() : apart.get();
  fidkit_gated_gelu(type_of<T>(), gate.get(), inner.get(), out, size, threads_of(random));
  compare("gated gelu", out, wanted, tolerance<T>());
}

void call_product(Random& random) {
  const int64_t count = random.size(110), rows = random.size(130);
  const int64_t columns = random.once_in(6) ? random.between(GROUP - 9, 3 * GROUP) : random.size(130);
  const int64_t spare = random.once_in(2) ? 0 : random.between(1, 9), stride = columns + spare;
  const int mode = static_cast<int>(random.between(FLOATS, INT8_ACTIVATIONS));
  const LaidOut weight(random, rows, columns, mode, random.once_in(2));
  const Exact<float> x = drawn<float>(random, count * stride - spare), out(count * rows);
  const Packed packed = weight.packed();
  fidkit_product(mode, x.get(), stride, count, &packed, out.get(), threads_of(random));
  naive::Numbers wanted;
  for (int64_t m = 0; m < count; ++m) {
    const naive::Numbers of(x.get() + m * stride, x.get() + m * stride + columns);
    for (const double made : weight.meant.times(of.data())) wanted.push_back(made);
  }
  const char* names[] = {"product", "product, int8", "product, int8 by int8"};
  compare(names[mode], out.get(), wanted, of_mode(mode, 3e-5, 3e-4, 0.1));
}

// Keys and values of all layers at once are what products make of the context, packed.
template <class T>
void call_project_context(Random& random) {
  const int64_t groups = random.between(1, 3), head = 16 * random.between(1, 3), shared = groups * head;
  const int64_t count = random.once_in(8) ? 0 : random.size(110), room = rounded_up(count, 16) + 16 * random.between(0, 2);
  const int64_t columns = random.once_in(6) ? random.between(GROUP - 9, 2 * GROUP) : random.size(130);
  const int64_t spare = random.once_in(2) ? 0 : random.between(1, 9), stride = columns + spare;
  const int mode = static_cast<int>(random.between(std::is_same_v<T, float> ? FLOATS : INT16_ACTIVATIONS, INT8_ACTIVATIONS));
  const Exact<float> states = drawn<float>(random, std::max<int64_t>(0, count * stride - spare));
  std::vector<LaidOut> weights;
  std::vector<Exact<T>> made, wanted;  // keys, then values of each layer
  const int64_t layers = random.between(1, 3);
  for (int64_t l = 0; l < layers; ++l) {
    weights.emplace_back(random, 2 * shared, columns, mode, random.once_in(2));
    const Packed packed = weights[l].packed();
    const Exact<float> product(count * 2 * shared);
    const Exact<T> rounded(product.size());
    fidkit_product(mode, states.get(), stride, count, &packed, product.get(), threads_of(random));
    for (int64_t i = 0; i < product.size(); ++i) narrow(product[i], &rounded[i]);
    for (int part = 0; part < 2; ++part) made.emplace_back(groups * room * head), wanted.emplace_back(groups * room * head);
    for (auto* of : {&made, &wanted})
      for (int part = 0; part < 2; ++part) std::memset((*of)[2 * l + part].get(), 0, groups * room * head * sizeof(T));
    fidkit_pack_context(type_of<T>(), rounded.get(), rounded.get() + shared, 2 * shared, count, groups, head, room,
                        wanted[2 * l].get(), wanted[2 * l + 1].get(), threads_of(random));
  }
  std::vector<CrossLayer> of_layers;
  for (int64_t l = 0; l < layers; ++l) of_layers.push_back({weights[l].packed(), made[2 * l].get(), made[2 * l + 1].get()});
  const CrossContext context{states.get(), stride, count, groups, head, room, layers, of_layers.data()};
  fidkit_project_context(mode, type_of<T>(), &context, threads_of(random));
  for (size_t i = 0; i < made.size(); ++i) {
    naive::Numbers numbers;
    for (int64_t at = 0; at < wanted[i].size(); ++at) numbers.push_back(value(wanted[i][at]));
    compare("keys and values of a context", made[i].get(), numbers, 1e-6);
  }
}

template <class T>
void call_piece(Random& random) {
  switch (random.between(1, 5)) {
    case 1: return call_row_attention<T>(random);
    case 2: return call_add_norm<T>(random);
    case 3: return call_gated_gelu<T>(random);
    case 4: return call_project_context<T>(random);
    default: return call_product(random);
  }
}

// --- A decoder ---

struct DecoderWeights {
  struct OneLayer {
    Plain query, key, value, out, cross_query, cross_out, gate, inner, feed_forward_out;
    Exact<float> self_norm, cross_norm, feed_forward_norm;
    naive::DecoderLayer meant;
  };

  int64_t width, heads, head, self_groups, cross_groups, feed_forward, vocabulary, capacity;
  bool halves, gated;    // halves: caches of bfloat16
  bool any_half = false;  // of weights or caches
  float epsilon, head_scale;
  Exact<float> self_bias, final_norm;
  Exact<float> head_mean, head_shift;  // empty where the head has none
  Plain head_linear;
  std::vector<OneLayer> layers;

  explicit DecoderWeights(Random& random)
      : width(random.size(96)),
        heads(random.once_in(5) ? random.between(1, 16) : random.between(1, 4)),
        head(heads > 4 ? 16 : head_width(random)),
        self_groups(groups_of(random, heads)),
        cross_groups(groups_of(random, heads)),
        feed_forward(random.size(130)),
        vocabulary(random.size(150)),
        capacity(random.size(60)),
        halves(random.once_in(2)),
        gated(random.once_in(2)),
        epsilon(epsilon_of(width)),
        head_scale(random.once_in(2) ? 1.0f : 0.5f),
        self_bias(drawn<float>(random, heads * capacity)),
        final_norm(norm(random, width)) {
    const int one = random.once_in(3) ? -1 : random.once_in(2) ? INT8 : halves ? BFLOAT16 : FLOAT32;
    any_half = halves;
    const auto type = [&] {
      const int drawn = one < 0 ? static_cast<int>(random.between(0, 2)) : one;
      any_half |= drawn == BFLOAT16;
      return drawn;
    };
    head_linear = Plain(random, vocabulary, width, type());
    if (random.once_in(3)) head_mean = drawn<float>(random, width), head_shift = drawn<float>(random, vocabulary);
    layers.resize(random.between(1, 3));
    const auto all_cross = random.once_in(2);
    for (OneLayer& layer : layers) draw(random, layer, type, all_cross || random.once_in(2));
  }

  std::vector<Layer> pointers() const {
    std::vector<Layer> made;
    for (const OneLayer& layer : layers)
      made.push_back({layer.self_norm.get(), or_null(layer.cross_norm), layer.feed_forward_norm.get(),
                      layer.query.linear(), layer.key.linear(), layer.value.linear(), layer.out.linear(),
                      layer.cross_query.linear(), layer.cross_out.linear(), layer.gate.linear(),
                      layer.inner.linear(), layer.feed_forward_out.linear(), nullptr, nullptr});
    return made;
  }

 private:
  template <class Type>
  void draw(Random& random, OneLayer& layer, Type type, bool cross) {
    const int64_t inside = heads * head, own = self_groups * head;
    const double gain = 1 / std::sqrt(head);  // scores of about 1, so that many keys count
    layer.query = Plain(random, inside, width, type(), gain);
    layer.key = Plain(random, own, width, type());
    layer.value = Plain(random, own, width, type());
    layer.out = Plain(random, width, inside, type());
    if (cross) {
      layer.cross_query = Plain(random, inside, width, type(), gain);
      layer.cross_out = Plain(random, width, inside, type(), 2);
      layer.cross_norm = norm(random, width);
    }
    if (gated) layer.gate = Plain(random, feed_forward, width, type());
    layer.inner = Plain(random, feed_forward, width, type());
    layer.feed_forward_out = Plain(random, width, feed_forward, type());
    layer.self_norm = norm(random, width);
    layer.feed_forward_norm = norm(random, width);
    layer.meant = {layer.query.meant, layer.key.meant, layer.value.meant, layer.out.meant,
                   layer.cross_query.meant, layer.cross_out.meant, layer.gate.meant, layer.inner.meant,
                   layer.feed_forward_out.meant, layer.self_norm.get(), or_null(layer.cross_norm),
                   layer.feed_forward_norm.get(), cross, gated};
  }
};

// Keys and values of all questions that a layer reads: as they were meant, and packed.
template <class T>
class CrossCache {
 public:
  std::vector<naive::Numbers> keys, values;  // a question each, [key][groups * head]
  Exact<T> packed_keys, packed_values;

  CrossCache(Random& random, const Exact<int64_t>& lengths, int64_t groups, int64_t head, int64_t room)
      : packed_keys(lengths.size() * groups * room * head), packed_values(packed_keys.size()) {
    for (int64_t question = 0; question < lengths.size(); ++question) {
      const int64_t length = lengths[question], shared = groups * head;
      T* to_keys = packed_keys.get() + question * groups * room * head;
      T* to_values = packed_values.get() + question * groups * room * head;
      keys.emplace_back(), values.emplace_back();
      // In pieces that begin at a multiple of 16, as contexts are laid out.
      const int64_t piece = random.once_in(2) ? length : 16 * random.between(1, 40);
      for (int64_t first = 0; first < length; first += piece) {
        const int64_t count = std::min(piece, length - first);
        const int64_t spare = random.once_in(2) ? 0 : random.between(1, 9), stride = 2 * shared + spare;
        const Exact<T> made = drawn<T>(random, count * stride - spare);
        fidkit_pack_context(type_of<T>(), made.get(), made.get() + shared, stride, count, groups, head, room,
                            to_keys + first * head, to_values + first * head, threads_of(random));
        for (int64_t i = 0; i < count * shared; ++i) {
          const int64_t at = i / shared * stride + i % shared;
          keys.back().push_back(value(made[at])), values.back().push_back(value(made[at + shared]));
        }
      }
    }
  }
};

// [layers, rows, groups, capacity, head], of which `position` keys are written.
template <class T>
class SelfCache {
 public:
  const Exact<T> cells;

  SelfCache(Random& random, const DecoderWeights& w, int64_t rows, int64_t position)
      : cells(static_cast<int64_t>(w.layers.size()) * rows * w.self_groups * w.capacity * w.head),
        w(w),
        rows(rows) {
    for (int64_t block = 0; block < cells.size(); block += w.capacity * w.head)
      for (int64_t i = 0; i < position * w.head; ++i)
        narrow(static_cast<float>(random.normal()), &cells[block + i]);
  }

  // Of one row: [key][groups * head].
  naive::Numbers of(int64_t layer, int64_t row, int64_t count) const {
    naive::Numbers out;
    for (int64_t key = 0; key < count; ++key)
      for (int64_t group = 0; group < w.self_groups; ++group)
        for (int64_t i = 0; i < w.head; ++i) out.push_back(value(cells[at(layer, row, group, key) + i]));
    return out;
  }

  // Whether what lies behind `count` keys was left alone.
  bool untouched(int64_t count) const {
    for (int64_t block = 0; block < cells.size(); block += w.capacity * w.head)
      for (int64_t i = count * w.head; i < w.capacity * w.head; ++i)
        if (const double x = value(cells[block + i]); x == x) return false;
    return true;
  }

 private:
  int64_t at(int64_t layer, int64_t row, int64_t group, int64_t key) const {
    return (((layer * rows + row) * w.self_groups + group) * w.capacity + key) * w.head;
  }

  const DecoderWeights& w;
  const int64_t rows;
};

Exact<int64_t> lengths_of(Random& random) {
  Exact<int64_t> lengths(random.between(1, 3));
  // At times more than one chunk of keys, and its edges.
  const int64_t chunk = CHUNK, most = random.once_in(10) ? chunk + random.between(-1, 600) : random.size(90);
  for (int64_t i = 0; i < lengths.size(); ++i)
    lengths[i] = random.once_in(4)   ? most
                 : random.once_in(6) ? std::min(most, random.one_of({chunk - 1, chunk, chunk + 1, 2 * chunk}))
                                     : random.between(1, most);
  return lengths;
}

template <class T>
void call_decoder(const DecoderWeights& w, Random& random) {
  const Exact<int64_t> lengths = lengths_of(random);
  const int64_t beams = random.once_in(2) ? 1 : random.between(1, 6), rows = lengths.size() * beams;
  const int64_t longest = *std::max_element(lengths.get(), lengths.get() + lengths.size());
  const int64_t room = rounded_up(longest, 16) + (random.once_in(4) ? 16 * random.between(1, 40) : 0);
  const int64_t position = random.once_in(4) ? w.capacity - 1 : random.between(0, w.capacity - 1);
  std::vector<Layer> layers = w.pointers();
  std::vector<std::unique_ptr<CrossCache<T>>> contexts;
  for (size_t i = 0; i < layers.size(); ++i) {
    contexts.emplace_back();
    if (!w.layers[i].meant.cross) continue;
    contexts[i] = std::make_unique<CrossCache<T>>(random, lengths, w.cross_groups, w.head, room);
    layers[i].cross_keys = contexts[i]->packed_keys.get();
    layers[i].cross_values = contexts[i]->packed_values.get();
  }
  const SelfCache<T> keys(random, w, rows, position), values(random, w, rows, position);
  const Exact<float> states = drawn<float>(random, rows * w.width), logits(rows * w.vocabulary);
  const naive::Numbers embedded(states.get(), states.get() + states.size());
  std::vector<naive::Numbers> past;
  for (size_t i = 0; i < layers.size(); ++i)
    for (int64_t row = 0; row < rows; ++row)
      past.push_back(keys.of(i, row, position)), past.push_back(values.of(i, row, position));

  const int64_t reading = std::count_if(contexts.begin(), contexts.end(), [](const auto& one) { return !!one; });
  Exact<float> looked;
  if (random.once_in(2)) looked = Exact<float>(reading * rows * room);
  const Step step{rows, beams, w.width, w.heads, w.head, w.self_groups, w.cross_groups, w.feed_forward, position,
                  w.capacity, room, lengths.get(), static_cast<int64_t>(layers.size()), layers.data(),
                  keys.cells.get(), values.cells.get(), w.self_bias.get(), w.final_norm.get(),
                  w.head_linear.linear(), w.head_scale, w.epsilon, or_null(w.head_mean), or_null(w.head_shift),
                  looked.size() ? looked.get() : nullptr, states.get(), logits.get()};
  fidkit_decoder_step(type_of<T>(), &step, threads_of(random));

  // Where anything is of bfloat16, its rounding is seen in all.
  const auto name = [&](const char* what) { return std::string(what) + (w.any_half ? ", bfloat16" : ""); };
  // Near halfway a number is rounded up here and down there, and later layers make more of it.
  const double near = w.any_half ? 3 * tolerance<bfloat16>() : tolerance<float>();
  const naive::Decoder meant{w.heads, w.head, w.self_groups, w.cross_groups, position, w.capacity,
                             w.self_bias.get(), w.epsilon, rounded<T>};
  Compared compared(name("decoder's logits"), near), cells(name("decoder's caches"), near);
  for (int64_t row = 0; row < rows; ++row) {
    naive::Numbers x(&embedded[row * w.width], &embedded[row * w.width] + w.width);
    for (size_t i = 0; i < layers.size(); ++i) {
      naive::Numbers row_keys = past[2 * (i * rows + row)], row_values = past[2 * (i * rows + row) + 1];
      const int64_t question = row / beams;
      const naive::Numbers none, &context_keys = contexts[i] ? contexts[i]->keys[question] : none,
                                 &context_values = contexts[i] ? contexts[i]->values[question] : none;
      meant.layer(w.layers[i].meant, x, row_keys, row_values, context_keys, context_values, lengths[question]);
      const naive::Numbers found_keys = keys.of(i, row, position + 1);
      const naive::Numbers found_values = values.of(i, row, position + 1);
      for (size_t j = 0; j < row_keys.size(); ++j) {
        cells.add(found_keys[j], row_keys[j]);
        cells.add(found_values[j], row_values[j]);
      }
    }
    const naive::Numbers normed = meant.normed_by(w.final_norm.get(), x);
    const naive::Numbers scores = w.head_linear.meant.times(normed);
    double shared = 0;
    for (int64_t i = 0; i < w.head_mean.size(); ++i) shared += normed[i] * w.head_mean[i];
    for (int64_t n = 0; n < w.vocabulary; ++n)
      compared.add(logits[row * w.vocabulary + n],
                   (scores[n] - (w.head_mean.size() ? shared * w.head_shift[n] : 0)) * w.head_scale);
  }
  for (int64_t i = 0; i < looked.size(); i += room) {
    const int64_t length = lengths[i / room % rows / beams];
    const double all = std::accumulate(looked.get() + i, looked.get() + i + length, 0.0);
    if (std::fabs(all - w.heads) > 2e-2 * w.heads) fail("weights of attention that don't sum to 1 a head");
    for (int64_t key = length; key < room; ++key)
      if (looked[i + key] != 0) fail("weights of attention behind the context");
  }
  if (!keys.untouched(position + 1) || !values.untouched(position + 1)) fail("something behind the position");
}

// --- Curves ---

// GELU where activations are bfloat16, at all numbers that it treats in any way of its own. Both forms are so near to
// one another that random layers don't tell them apart.
void compare_gelus() {
  for (double x = -6; x <= 6; x += 1.0 / 512) {
    const Floats at = broadcast(static_cast<float>(x));
    if (!(std::fabs(erf_gelu<bfloat16>(at)[0] - naive::exact_gelu(x)) < 1.35e-4)) fail("BERT's GELU at " + std::to_string(x));
    if (!(std::fabs(gelu<bfloat16>(at)[0] - naive::tanh_gelu(x)) < 1.35e-4)) fail("T5's GELU at " + std::to_string(x));
  }
}

// --- Rounds ---

struct Calls {
  int64_t encoder = 0, pieces = 0, decoder = 0;
};

// Calls by all callers with the weights of one reader.
void together(const std::function<void(Random&)>& call, uint64_t seed) {
  Random random(seed + 0x5eed);
  // Spaces that a thread keeps from call to call only grow: a new thread's, and those of its team, are as large
  // as this call needs, so that a step beyond them is seen.
  if (callers == 1 && random.once_in(2)) return call(random);
  std::vector<std::thread> threads;
  for (int caller = 0; caller < callers; ++caller)
    threads.emplace_back([&call, seed, caller] {
      Random own(seed + 0x5eed + 0x10001 * static_cast<uint64_t>(caller + 1));
      call(own);
    });
  for (std::thread& thread : threads) thread.join();
}

void one_round(uint64_t seed, Calls& calls) {
  Random random(seed);
  if (random.once_in(2)) {
    const EncoderWeights weights(random);
    together([&](Random& own) { call_encoder(weights, own); }, seed);
    calls.encoder += callers;
    if (!random.once_in(2)) return;
    const bool halves = !random.once_in(3);
    together([&](Random& own) { halves ? call_piece<bfloat16>(own) : call_piece<float>(own); }, seed);
    calls.pieces += callers;
  } else {
    const DecoderWeights weights(random);
    together(
        [&](Random& own) {
          weights.halves ? call_decoder<bfloat16>(weights, own) : call_decoder<float>(weights, own);
        },
        seed);
    calls.decoder += callers;
  }
}

}  // namespace

int main(int count, char** words) {
  if (count < 3) return std::fputs("fuzz SEED COUNT [CALLERS]\n", stderr), 2;
  const uint64_t seed = std::strtoull(words[1], nullptr, 10);
  const int64_t wanted = std::strtoll(words[2], nullptr, 10);
  callers = count > 3 ? std::max(1, std::atoi(words[3])) : 1;
  if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(say_seed);
  compare_gelus();
  Calls calls;
  for (uint64_t i = 0; calls.encoder + calls.decoder < wanted; ++i) {
    seed_now = seed + i;
    one_round(seed + i, calls);
  }
  std::printf("%lld encoder and %lld decoder calls, and %lld of pieces, from seed %llu by %d; vectors of %d\n",
              static_cast<long long>(calls.encoder), static_cast<long long>(calls.decoder),
              static_cast<long long>(calls.pieces), static_cast<unsigned long long>(seed), callers,
              fidkit_lanes());
  for (const auto& [what, part] : furthest)
    std::printf("%s: at most %.0f %% of the tolerated error\n", what.c_str(), 100 * part);
}
