// What the kernels compute, one number at a time and in double precision: the fuzzer's other opinion.
//
// Nothing here knows vectors, slots, packed layouts or threads. Where the kernels keep a number as bfloat16, so
// does this: else tolerances would have to be so wide that a fault hides in them.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

namespace naive {

using Numbers = std::vector<double>;
using Round = std::function<double(double)>;  // to the type that a number is kept in

inline double to_float(double x) { return static_cast<float>(x); }

inline double to_bfloat16(double x) {
  const float nearest = static_cast<float>(x);
  uint32_t word;
  std::memcpy(&word, &nearest, 4);
  word = (word + 0x7fff + ((word >> 16) & 1)) & 0xffff0000u;
  float rounded;
  std::memcpy(&rounded, &word, 4);
  return rounded;
}

// Most of the time goes into this loop, and no sanitizer looks for faults of the naive code.
__attribute__((no_sanitize("address"), no_sanitize("undefined"), no_sanitize("thread")))
inline double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// A weight [rows, columns] as it was meant, with a bias or none.
struct Matrix {
  int64_t rows = 0, columns = 0;
  Numbers values, bias;

  Numbers times(const double* x) const {
    Numbers out(rows);
    for (int64_t n = 0; n < rows; ++n)
      out[n] = dot(&values[n * columns], x, columns) + (bias.empty() ? 0 : bias[n]);
    return out;
  }
};

inline double relu(double x) { return std::max(0.0, x); }
inline double exact_gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }
inline double tanh_gelu(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

inline Numbers rms_norm(const double* x, int64_t width, const float* weight, double epsilon) {
  Numbers out(width);
  const double scale = 1 / std::sqrt(dot(x, x, width) / width + epsilon);
  for (int64_t i = 0; i < width; ++i) out[i] = x[i] * scale * weight[i];
  return out;
}

inline void layer_norm(double* x, int64_t width, const float* weight, const float* shift, double epsilon) {
  double mean = 0, square = 0;
  for (int64_t i = 0; i < width; ++i) mean += x[i] / width;
  for (int64_t i = 0; i < width; ++i) square += (x[i] - mean) * (x[i] - mean) / width;
  for (int64_t i = 0; i < width; ++i) x[i] = (x[i] - mean) / std::sqrt(square + epsilon) * weight[i] + shift[i];
}

inline void add(double* x, const Numbers& more) {
  for (size_t i = 0; i < more.size(); ++i) x[i] += more[i];
}

// One query of one head; key(j), value(j) and bias(j) are those of key j, out of `count`.
template <class Key, class Value, class Bias>
void attend(const double* query, int64_t count, int64_t head, Key key, Value value, Bias bias, const Round& round,
            double* out) {
  Numbers scores(count);
  for (int64_t j = 0; j < count; ++j) scores[j] = dot(query, key(j), head) + bias(j);
  const double largest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  std::fill(out, out + head, 0.0);
  for (int64_t j = 0; j < count; ++j) {
    const double weight = std::exp(scores[j] - largest), kept = round(weight);
    sum += weight;
    for (int64_t d = 0; d < head; ++d) out[d] += kept * value(j)[d];
  }
  for (int64_t d = 0; d < head; ++d) out[d] /= sum;
}

// Rows that attend to themselves; q, k, v and the result are [vectors, heads * head].
struct Rows {
  const int64_t* starts;
  int64_t rows, heads, head;
  const float* bias;  // [heads, 2 * reach - 1] by distance, or null
  int64_t reach;

  int64_t vectors() const { return starts[rows]; }

  Numbers attend(const Numbers& q, const Numbers& k, const Numbers& v, const Round& round) const {
    const int64_t inside = heads * head;
    Numbers out(vectors() * inside);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t i = starts[row]; i < starts[row + 1]; ++i) {
          const auto at = [&](int64_t j) { return (starts[row] + j) * inside + h * head; };
          naive::attend(
              &q[i * inside + h * head], starts[row + 1] - starts[row], head,
              [&](int64_t j) { return &k[at(j)]; }, [&](int64_t j) { return &v[at(j)]; },
              [&](int64_t j) {
                const int64_t distance = starts[row] + j - i;
                return bias ? bias[h * (2 * reach - 1) + reach - 1 + distance] : 0.0;
              },
              round, &out[i * inside + h * head]);
        }
    return out;
  }
};

struct EncoderLayer {
  Matrix query_key_value, out, inner, feed_forward_out, gate;
  const float *attention_norm, *attention_shift, *feed_forward_norm, *feed_forward_shift;
};

struct Encoder {
  Rows rows;
  int64_t width;
  std::vector<const EncoderLayer*> layers;
  const float *final_norm, *final_shift;
  double epsilon, scale;
  bool gated, behind;

  void run(Numbers& states) const {
    for (const EncoderLayer* layer : layers) {
      attention(*layer, states);
      each(states, [&](double* x) { feed_forward(*layer, x); });
    }
    if (final_norm) each(states, [&](double* x) { last(x); });
  }

 private:
  template <class Body>
  void each(Numbers& states, Body body) const {
    for (int64_t m = 0; m < rows.vectors(); ++m) body(&states[m * width]);
  }

  Numbers before(const double* x, const float* norm) const {
    return behind ? Numbers(x, x + width) : rms_norm(x, width, norm, epsilon);
  }

  void attention(const EncoderLayer& layer, Numbers& states) const {
    const int64_t inside = rows.heads * rows.head;
    Numbers q, k, v;
    each(states, [&](double* x) {
      const Numbers made = layer.query_key_value.times(before(x, layer.attention_norm).data());
      for (int64_t i = 0; i < inside; ++i) q.push_back(made[i] * scale);
      k.insert(k.end(), &made[inside], &made[inside] + inside);
      v.insert(v.end(), &made[2 * inside], &made[2 * inside] + inside);
    });
    const Numbers mixed = rows.attend(q, k, v, to_float);
    const double* next = mixed.data();
    each(states, [&](double* x) {
      add(x, layer.out.times(next));
      if (behind) layer_norm(x, width, layer.attention_norm, layer.attention_shift, epsilon);
      next += inside;
    });
  }

  void feed_forward(const EncoderLayer& layer, double* x) const {
    const Numbers normed = before(x, layer.feed_forward_norm);
    Numbers inner = layer.inner.times(normed.data());
    if (gated) {
      const Numbers gate = layer.gate.times(normed.data());
      for (size_t i = 0; i < inner.size(); ++i) inner[i] *= tanh_gelu(gate[i]);
    } else {
      for (double& value : inner) value = behind ? exact_gelu(value) : relu(value);
    }
    add(x, layer.feed_forward_out.times(inner.data()));
    if (behind) layer_norm(x, width, layer.feed_forward_norm, layer.feed_forward_shift, epsilon);
  }

  void last(double* x) const {
    if (behind) return layer_norm(x, width, final_norm, final_shift, epsilon);
    const Numbers normed = rms_norm(x, width, final_norm, epsilon);
    std::copy(normed.begin(), normed.end(), x);
  }
};

// A weight of a decoder, and how it sees what it is multiplied with.
struct Linear : Matrix {
  Round sees = to_float;

  Numbers times(Numbers x) const {
    for (double& value : x) value = sees(value);
    return Matrix::times(x.data());
  }
};

struct DecoderLayer {
  Linear query, key, value, out, cross_query, cross_out, gate, inner, feed_forward_out;
  const float *self_norm, *cross_norm, *feed_forward_norm;
  bool cross, gated;
};

// One position of one decoding row. Keys and values are [key][groups * head].
struct Decoder {
  int64_t heads, head, self_groups, cross_groups, position, capacity;
  const float* self_bias;  // [heads, capacity]
  double epsilon;
  Round kept;  // as caches, queries and weights of attention are

  // `keys` and `values` get the position's own at their ends.
  void layer(const DecoderLayer& layer, Numbers& x, Numbers& keys, Numbers& values, const Numbers& context_keys,
             const Numbers& context_values, int64_t length) const {
    const Numbers normed = normed_by(layer.self_norm, x);
    for (const double made : layer.key.times(normed)) keys.push_back(kept(made));
    for (const double made : layer.value.times(normed)) values.push_back(kept(made));
    const Numbers past = mixed(layer.query.times(normed), keys, values, position + 1, self_groups, self_bias);
    add(x.data(), layer.out.times(past));
    if (layer.cross) {
      const Numbers query = layer.cross_query.times(normed_by(layer.cross_norm, x));
      add(x.data(), layer.cross_out.times(
                        mixed(query, context_keys, context_values, length, cross_groups, nullptr)));
    }
    const Numbers before = normed_by(layer.feed_forward_norm, x);
    Numbers inner = layer.inner.times(before);
    const Numbers gate = layer.gated ? layer.gate.times(before) : Numbers();
    for (size_t i = 0; i < inner.size(); ++i)
      inner[i] = layer.gated ? inner[i] * tanh_gelu(gate[i]) : relu(inner[i]);
    add(x.data(), layer.feed_forward_out.times(inner));
  }

  Numbers normed_by(const float* norm, const Numbers& x) const {
    return rms_norm(x.data(), static_cast<int64_t>(x.size()), norm, epsilon);
  }

 private:
  Numbers mixed(Numbers query, const Numbers& keys, const Numbers& values, int64_t count, int64_t groups,
                const float* bias) const {
    Numbers out(heads * head);
    for (double& value : query) value = kept(value);
    for (int64_t h = 0; h < heads; ++h) {
      const auto at = [&](int64_t j) { return (j * groups + h / (heads / groups)) * head; };
      attend(
          &query[h * head], count, head, [&](int64_t j) { return &keys[at(j)]; },
          [&](int64_t j) { return &values[at(j)]; },
          [&](int64_t j) { return bias ? bias[h * capacity + position - j] : 0.0; }, kept, &out[h * head]);
    }
    return out;
  }
};

}  // namespace naive
