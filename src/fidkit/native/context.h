// What a decoder makes of a context before its first step: keys and values of all layers that look at it.
//
// A thread takes a few vectors through all layers at once. They become integers once for all of them, and what is
// made of them goes to its final place from the cache of the core.

#pragma once

#include "attention.h"
#include "products.h"

// Read by ctypes: keep in step with the structures of fidkit.native.
extern "C" {
// A layer that looks: its weights, keys above values, and where these go, [groups, packed slots of `room` keys].
struct CrossLayer {
  Packed keys_values;
  void *keys, *values;
};

struct CrossContext {
  const float* states;  // [count, columns of the weights], `stride` apart
  int64_t stride, count;
  int64_t groups, head, room;
  int64_t layers;
  const CrossLayer* layer;
};
}

namespace {

// Vectors that a thread takes at a time: whole blocks of packed keys, and no rest that is multiplied one by one.
constexpr int64_t CONTEXT_BLOCK = 48;
static_assert(CONTEXT_BLOCK % LANES == 0 && CONTEXT_BLOCK % QUERIES == 0);

// T is what activations become for the products, Out what caches keep: float or bfloat16.
template <class T, class Out>
void project_context(const CrossContext& context, int threads) {
  const int64_t head = context.head, width = context.groups * head;
  const int64_t slots = packed_slots<Out>(context.room, head);
  with_threads(threads, [&](const Team& team) {
    Left<T> left;
    std::vector<Out, Aligned<Out>> space;
    Out* made = scratch(space, CONTEXT_BLOCK * 2 * width);
    team.each((context.count + CONTEXT_BLOCK - 1) / CONTEXT_BLOCK, [&](int64_t number) {
      const int64_t first = number * CONTEXT_BLOCK, here = std::min(CONTEXT_BLOCK, context.count - first);
      for (int64_t l = 0; l < context.layers; ++l) {
        const CrossLayer& layer = context.layer[l];
        if (l == 0) left.take(context.states + first * context.stride, context.stride, here, layer.keys_values.columns);
        multiply(left, here, layer.keys_values, made, 2 * width, PUT);
        for (int64_t group = 0; group < context.groups; ++group) {
          const int64_t to = group * slots + packed_slots<Out>(first, head);
          pack_keys(made + group * head, 2 * width, here, head, static_cast<uint32_t*>(layer.keys) + to);
          pack_values(made + width + group * head, 2 * width, here, head, static_cast<uint32_t*>(layer.values) + to);
        }
      }
    });
  });
}

}  // namespace
