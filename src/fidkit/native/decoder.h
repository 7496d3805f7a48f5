// One whole step of a decoder in one call.

#pragma once

#include "attention.h"
#include "products.h"

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
  // For a head whose rows are shift[n] * (what `head_linear` has before its scale, less `mean`): [width] and
  // [vocabulary], or null.
  const float *head_mean, *head_shift;
  float* looked;  // [cross layers, rows, context], weights of attention summed over heads; or null
  float* states;  // [rows, width], the embedded tokens; overwritten
  float* logits;  // [rows, vocabulary]
};
}

namespace {

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
  std::vector<float> seen;  // [row, head, context] weights, each chunk's by its own largest score; if `looked`
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
    if (s.looked) seen.resize(s.rows * s.heads * s.context);
  }
};

// One thread's view of a step. Each thread normalises for itself: that is cheaper than waiting. It does so with
// something of the stage in its hands, for only then are the states as they were when the stage began.
template <class T>
class ThreadView {
 public:
  ThreadView(const Step& step, Shared<T>& shared, const Team& team) : s(step), all(shared), team(team) {
    normed.resize(s.rows * s.width);
    projected.resize(s.rows * s.heads * s.head);
  }

  void run() {
    int64_t reading = 0;  // layers with cross-attention so far
    for (int64_t number = 0; number < s.layers; ++number) {
      const Layer& layer = s.layer[number];
      attend_to_past(layer, number);
      if (layer.cross_query.weight) attend_to_context(layer, reading++);
      feed_forward(layer);
    }
    share_normed(s.final_norm, s.head_linear.rows, 4, [&](int64_t begin, int64_t end) {
      linear(s.head_linear, normed, s.rows, begin, end, {s.logits, s.head_linear.rows, false, s.head_scale});
      if (s.head_mean) take_mean_off(begin, end);
    });
  }

 private:
  // A stage on the normalised states.
  template <class F>
  void share_normed(const float* norm, int64_t n, int64_t grain, const F& f) {
    bool ready = false;
    team.share(n, grain, [&](int64_t begin, int64_t end) {
      if (!std::exchange(ready, true)) normalise(norm);
      f(begin, end);
    });
  }

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

  // What the rows [begin, end) of the head share is taken off the logits, and not off each row.
  void take_mean_off(int64_t begin, int64_t end) {
    for (int64_t m = 0; m < s.rows; ++m) {
      float shared = 0;
      for (int64_t i = 0; i < s.width; ++i) shared += normed.floats[m * s.width + i] * s.head_mean[i];
      for (int64_t n = begin; n < end; ++n)
        s.logits[m * s.head_linear.rows + n] -= shared * s.head_shift[n] * s.head_scale;
    }
  }

  void attend_to_past(const Layer& layer, int64_t number) {
    T* keys = static_cast<T*>(s.self_keys) + number * cache_size();
    T* values = static_cast<T*>(s.self_values) + number * cache_size();
    // Rows of all three, one behind the other.
    const int64_t first_key = layer.query.rows, first_value = first_key + layer.key.rows;
    share_normed(layer.self_norm, first_value + layer.value.rows, 4, [&](int64_t begin, int64_t end) {
      project(layer.query, begin, end, [&](int64_t m, int64_t n) { return query(m, n); });
      project(layer.key, begin - first_key, end - first_key, [&](int64_t m, int64_t n) { return cell(keys, m, n); });
      project(layer.value, begin - first_value, end - first_value,
              [&](int64_t m, int64_t n) { return cell(values, m, n); });
    });
    team.share(s.rows * s.heads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) past_of_head(keys, values, task / s.heads, task % s.heads);
    });
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

  void attend_to_context(const Layer& layer, int64_t reading) {
    share_normed(layer.cross_norm, layer.cross_query.rows, 4, [&](int64_t begin, int64_t end) {
      project(layer.cross_query, begin, end, [&](int64_t m, int64_t n) { return query(m, n); });
    });
    const int64_t questions = s.rows / s.beams;
    team.each(questions * s.cross_groups * all.chunks, [&](int64_t task) { chunk_of_context(layer, task); });
    team.share(s.rows * s.heads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) merge_chunks(task);
    });
    if (s.looked)
      team.each(s.rows * all.chunks,
                [&](int64_t task) { note_weights(task / all.chunks, task % all.chunks, reading); });
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
                    [&](int64_t q, int64_t d, Floats mixture) {
                      store(all.part.data() + ((query + q) * all.chunks + chunk) * s.head + d, mixture);
                    });
        for (int64_t j = 0; j < here; ++j)
          all.softmaxes[(query + j) * all.chunks + chunk] =
              count > 0 ? softmaxes[j] : Softmax{-std::numeric_limits<float>::infinity(), 0};
        if (s.looked)
          for (int64_t j = 0; j < here; ++j)
            for (int64_t k = 0; k < count; ++k)
              all.seen[(query + j) * s.context + first + k] =
                  value_of(reinterpret_cast<const T*>(weights)[j * rounded_up(count, LANES) + k]);
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

  // How much a row looks at each key of a chunk, over all heads.
  void note_weights(int64_t row, int64_t chunk, int64_t reading) {
    const int64_t first = chunk * CHUNK, count = std::min(CHUNK, s.lengths[row / s.beams] - first);
    const int64_t room = std::min(CHUNK, s.context - first);
    float* to = s.looked + (reading * s.rows + row) * s.context + first;
    std::fill(to, to + std::max<int64_t>(0, room), 0.0f);
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t query = row * s.heads + h;
      const Softmax* soft = all.softmaxes.data() + query * all.chunks;
      float largest = soft[0].largest, sum = 0;
      for (int64_t c = 1; c < all.chunks; ++c) largest = std::max(largest, soft[c].largest);
      for (int64_t c = 0; c < all.chunks; ++c)
        sum += soft[c].sum ? soft[c].sum * std::exp(soft[c].largest - largest) : 0;
      const float share = count > 0 ? std::exp(soft[chunk].largest - largest) / sum : 0;
      for (int64_t k = 0; k < count; ++k) to[k] += share * all.seen[query * s.context + first + k];
    }
  }

  void feed_forward(const Layer& layer) {
    share_normed(layer.feed_forward_norm, s.feed_forward, LANES, [&](int64_t begin, int64_t end) {
      linear(layer.inner, normed, s.rows, begin, end, {all.inner.data(), s.feed_forward});
      if (layer.gate.weight) linear(layer.gate, normed, s.rows, begin, end, {all.gate.data(), s.feed_forward});
      for (int64_t m = 0; m < s.rows; ++m)
        for (int64_t n = begin; n < end; ++n) {
          const int64_t at = m * s.feed_forward + n;
          all.hidden.set(at, layer.gate.weight ? all.inner[at] : std::max(0.0f, all.inner[at]));
        }
      if (layer.gate.weight) multiply_by_gelu(begin, end);
    });
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

  // Those of the rows [begin, end) that `a` has, times the normalised states; element n of row m goes to place(m, n).
  template <class Place>
  void project(const Linear& a, int64_t begin, int64_t end, Place place) {
    begin = std::max<int64_t>(begin, 0), end = std::min(end, a.rows);
    if (begin >= end) return;
    linear(a, normed, s.rows, begin, end, {projected.data(), a.rows});
    for (int64_t m = 0; m < s.rows; ++m)
      for (int64_t n = begin; n < end; ++n) narrow(projected[m * a.rows + n], place(m, n));
  }

  // states += a(x)
  void add(const Linear& a, const Activations& x) {
    team.share(a.rows, 4, [&](int64_t begin, int64_t end) {
      linear(a, x, s.rows, begin, end, {s.states, s.width, true});
    });
  }

  const Step& s;
  Shared<T>& all;
  const Team& team;
  Activations normed;
  std::vector<float> projected, score_space;
  std::vector<uint32_t> weight_space;
};

template <class T>
void decoder_step(const Step& step, int threads) {
  Shared<T> shared(step);
  with_threads(threads, [&](const Team& team) { ThreadView<T>(step, shared, team).run(); });
}

// Keys or values [keys, groups * head] of one question -> packed, [groups, packed slots of `room` keys].
template <class T>
void pack_context(const T* keys, const T* values, int64_t stride, int64_t count, int64_t groups, int64_t head,
                  int64_t room, uint32_t* packed_keys, uint32_t* packed_values, int threads) {
  const int64_t slots = packed_slots<T>(room, head), blocks = (count + CHUNK - 1) / CHUNK;
  with_threads(threads, [&](const Team& team) {
    team.each(blocks * groups, [&](int64_t task) {
      const int64_t group = task % groups, first = task / groups * CHUNK, here = std::min(CHUNK, count - first);
      const int64_t from = first * stride + group * head, to = group * slots + packed_slots<T>(first, head);
      pack_keys(keys + from, stride, here, head, packed_keys + to);
      pack_values(values + from, stride, here, head, packed_values + to);
    });
  });
}

}  // namespace
