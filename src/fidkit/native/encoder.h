// A run of encoder layers over ragged rows in one call.
//
// A thread takes some vectors through all that looks at each vector by itself, from one attention to the next, so
// that what is made of them stays in its cache; threads wait for one another before attention and after it. The
// residual stream is float32 whatever the weights are: it is narrow beside the rest, and adding in bfloat16
// would lose what later layers change.

#pragma once

#include "attention.h"
#include "products.h"

// Read by ctypes: keep in step with the structures of fidkit.native.
extern "C" {
struct EncoderLayer {
  Packed query_key_value;  // one below the other
  Packed out, inner, feed_forward_out;
  Packed gate;  // its weight is null in a feed-forward without one
  const float *attention_norm, *attention_shift;  // shifts of norms that stand behind
  const float *feed_forward_norm, *feed_forward_shift;
};

struct Encoder {
  float* states;          // [vectors, width], overwritten
  const int64_t* starts;  // [rows + 1]
  int64_t rows, width, heads, head, feed_forward, reach, layers;
  const EncoderLayer* layer;
  const float* bias;                      // [heads, 2 * reach - 1] by distance, or null
  const float *final_norm, *final_shift;  // null for none
  float epsilon, scale;                   // of norms; of scores
  int64_t norms_behind;                   // each behind its sub-layer, with mean and shift; else before, by RMS
};
}

namespace {

// states += change; out = states / rms(states) * weight, of one vector. `change` and `out` may be null.
template <class T>
inline void add_norm(float* x, const T* change, const float* weight, float epsilon, T* out, int64_t width) {
  Floats squares{};
  float rest = 0;
  int64_t i = 0;
  for (; i + LANES <= width; i += LANES) {
    Floats value = load<Floats>(x + i);
    if (change) {
      value += load_floats(change + i);
      store(x + i, value);
    }
    squares += value * value;
  }
  for (; i < width; ++i) {
    if (change) x[i] += widen(change[i]);
    rest += x[i] * x[i];
  }
  if (!out) return;
  const float scale = 1.0f / std::sqrt((sum_of(squares) + rest) / width + epsilon);
  for (i = 0; i + LANES <= width; i += LANES)
    store_floats(out + i, load<Floats>(x + i) * scale * load<Floats>(weight + i));
  for (; i < width; ++i) narrow(x[i] * scale * weight[i], out + i);
}

template <class T>
void add_norm(float* states, const T* change, const float* weight, float epsilon, T* out, int64_t rows,
              int64_t width, int threads) {
  with_threads(threads, [&](const Team& team) {
    team.share(rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        add_norm(states + row * width, change ? change + row * width : nullptr, weight, epsilon,
                 out ? out + row * width : nullptr, width);
    });
  });
}

// out = gelu(gate) * inner, element by element.
template <class T>
void gated_gelu(const T* gate, const T* inner, T* out, int64_t size, int threads) {
  const int64_t whole = size / LANES * LANES;
  with_threads(threads, [&](const Team& team) {
    team.share(whole, LANES, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += LANES)
        store_floats(out + i, gelu<T>(load_floats(gate + i)) * load_floats(inner + i));
    });
  });
  for (int64_t i = whole; i < size; ++i)
    narrow(gelu<T>(broadcast(widen(gate[i])))[0] * widen(inner[i]), out + i);
}

// x -> (x - mean) / deviation * weight + shift, in place.
inline void layer_norm(float* x, const float* weight, const float* shift, float epsilon, int64_t width) {
  Floats sums{}, squares{};
  float sum = 0, square = 0;
  int64_t i = 0;
  for (; i + LANES <= width; i += LANES) sums += load<Floats>(x + i);
  for (; i < width; ++i) sum += x[i];
  const float mean = (sum_of(sums) + sum) / width;
  for (i = 0; i + LANES <= width; i += LANES) {
    const Floats apart = load<Floats>(x + i) - mean;
    squares += apart * apart;
  }
  for (; i < width; ++i) square += (x[i] - mean) * (x[i] - mean);
  const float scale = 1.0f / std::sqrt((sum_of(squares) + square) / width + epsilon);
  for (i = 0; i + LANES <= width; i += LANES)
    store(x + i, (load<Floats>(x + i) - mean) * scale * load<Floats>(weight + i) + load<Floats>(shift + i));
  for (; i < width; ++i) x[i] = (x[i] - mean) * scale * weight[i] + shift[i];
}

// x = f(x), element by element; x has room for whole vectors.
template <class T, class Function>
void apply(T* x, int64_t size, Function function) {
  for (int64_t i = 0; i < size; i += LANES) store_floats(x + i, function(load_floats(x + i)));
}

// What attention reads and writes, and what a feed-forward has inside. Where activations have 8 bits in the end,
// bfloat16 loses nothing that shows.
template <class T>
struct Between {
#ifdef __AVX512BF16__
  using Type = std::conditional_t<std::is_same_v<T, int8_t>, bfloat16, float>;
#else
  using Type = float;
#endif
};

// T are the slots of products: float, or int16_t or int8_t for weights of 8 bits.
template <class T>
class EncoderRun {
 public:
  EncoderRun(const Encoder& encoder, int threads)
      : e(encoder), threads(threads), vectors(e.starts[e.rows]), inside(e.heads * e.head) {}

  void operator()() {
    // Not initialised: each thread is the first to touch what it writes, and nothing is read before.
    std::unique_ptr<A[]> made(new A[vectors * 3 * inside]), mixed(new A[vectors * inside]);
    const int64_t size = block_of(vectors, threads), blocks = (vectors + size - 1) / size;
    const RowAttention<A> attention{made.get(), made.get() + inside, made.get() + 2 * inside, 3 * inside,
                                    mixed.get(), inside, e.starts, e.heads, e.head,
                                    e.bias, e.reach};
    with_threads(threads, [&](const Team& team) {
      Space space;
      for (int64_t number = 0; number <= e.layers; ++number) {
        team.each(blocks, [&](int64_t block) {
          const int64_t first = block * size, count = std::min(size, vectors - first);
          if (number) behind_attention(e.layer[number - 1], mixed.get(), first, count, space);
          if (number < e.layers) before_attention(e.layer[number], made.get(), first, count, space);
          else normalise_last(first, count);
        });
        if (number == e.layers) break;
        team.each(e.rows * e.heads, [&](int64_t task) { attention(task / e.heads, task % e.heads); });
      }
    });
  }

 private:
  using A = typename Between<T>::Type;

  // What a thread writes and reads again before others see it.
  struct Space {
    Left<T> left;
    std::vector<float, Aligned<float>> normed;
    std::vector<A, Aligned<A>> inner;
  };

  float* states(int64_t first) const { return e.states + first * e.width; }

  // The states as the next product takes them: of norms that stand before, normalised first.
  void take(const float* norm, int64_t first, int64_t count, Space& space) const {
    const float* from = states(first);
    if (!e.norms_behind) {
      float* normed = scratch(space.normed, count * e.width);
      for (int64_t m = 0; m < count; ++m) rms_norm(states(first + m), norm, normed + m * e.width);
      from = normed;
    }
    space.left.take(from, e.width, count, e.width);
  }

  void before_attention(const EncoderLayer& layer, A* made, int64_t first, int64_t count,
                        Space& space) const {
    take(layer.attention_norm, first, count, space);
    A* out = made + first * 3 * inside;
    multiply(space.left, count, layer.query_key_value, out, 3 * inside, PUT);
    for (int64_t m = 0; e.scale != 1 && m < count; ++m)
      apply(out + m * 3 * inside, inside, [&](Floats query) { return query * e.scale; });
  }

  void behind_attention(const EncoderLayer& layer, const A* mixed, int64_t first, int64_t count,
                        Space& space) const {
    space.left.take(mixed + first * inside, inside, count, inside);
    multiply(space.left, count, layer.out, states(first), e.width, ADD);
    normalise(layer.attention_norm, layer.attention_shift, first, count);
    take(layer.feed_forward_norm, first, count, space);
    A* inner = scratch(space.inner, count * e.feed_forward);
    const auto make = [&](const Packed& weight, auto then) {
      multiply(space.left, count, weight, inner, e.feed_forward, then);
    };
    if (layer.gate.weight) {
      make(layer.gate, [](Floats x, Floats) { return gelu<A>(x); });
      make(layer.inner, [](Floats x, Floats gate) { return gate * x; });
    } else if (e.norms_behind) {
      make(layer.inner, [](Floats x, Floats) { return erf_gelu<A>(x); });
    } else {
      make(layer.inner, [](Floats x, Floats) { return larger(x, Floats{}); });
    }
    space.left.take(inner, e.feed_forward, count, e.feed_forward);
    multiply(space.left, count, layer.feed_forward_out, states(first), e.width, ADD);
    normalise(layer.feed_forward_norm, layer.feed_forward_shift, first, count);
  }

  void normalise(const float* norm, const float* shift, int64_t first, int64_t count) const {
    for (int64_t m = 0; e.norms_behind && m < count; ++m)
      layer_norm(states(first + m), norm, shift, e.epsilon, e.width);
  }

  void normalise_last(int64_t first, int64_t count) const {
    if (!e.final_norm) return;
    normalise(e.final_norm, e.final_shift, first, count);
    for (int64_t m = 0; !e.norms_behind && m < count; ++m)
      rms_norm(states(first + m), e.final_norm, states(first + m));
  }

  void rms_norm(float* x, const float* norm, float* out) const {
    add_norm<float>(x, nullptr, norm, e.epsilon, out, e.width);
  }

  const Encoder& e;
  const int threads;
  const int64_t vectors, inside;
};

}  // namespace
