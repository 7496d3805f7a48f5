// OpenMP's threads in a few lines, for the thread sanitizer.
//
// GCC's own library isn't built with the sanitizer, which therefore sees none of its barriers and reports all that
// they order as races. What GCC turns this project's pragmas into is little: a team, a barrier, and loops whose
// turns are handed out. Linked in its stead, this orders what OpenMP promises to order and nothing else: turns of
// a loop are counted by an atomic that orders nothing.
//
// A pragma that needs more of the library doesn't link.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

namespace {

struct Loop {
  long first, end, step, chunk;
};

constexpr int MOST_LOOPS = 256;  // one after the other in a parallel region

struct Crew {
  const int size;
  std::mutex mutex;
  std::condition_variable passed;
  int waiting = 0;
  long barriers = 0;
  std::atomic<long> taken[MOST_LOOPS] = {};  // chunks of each loop
};

thread_local Crew* crew = nullptr;
thread_local int member = 0;
thread_local Loop loop;
thread_local int number = 0;  // of the loop that this thread is in

void work(Crew& with, int as, const Loop& in, void (*body)(void*), void* data) {
  Crew* const outer = crew;
  const int outer_member = member;
  crew = &with, member = as, loop = in, number = 0;
  body(data);
  crew = outer, member = outer_member;
}

void parallel(void (*body)(void*), void* data, unsigned size, const Loop& in) {
  Crew made{static_cast<int>(size), {}, {}};
  std::vector<std::thread> others;
  for (unsigned as = 1; as < size; ++as)
    others.emplace_back([&, as] { work(made, static_cast<int>(as), in, body, data); });
  work(made, 0, in, body, data);
  for (std::thread& other : others) other.join();
}

void wait() {
  if (!crew) return;
  std::unique_lock<std::mutex> lock(crew->mutex);
  if (++crew->waiting == crew->size) {
    crew->waiting = 0, ++crew->barriers;
    crew->passed.notify_all();
  } else {
    crew->passed.wait(lock, [now = crew->barriers] { return crew->barriers != now; });
  }
}

}  // namespace

extern "C" {

int omp_get_thread_num() { return member; }

int omp_get_num_threads() { return crew ? crew->size : 1; }

void GOMP_barrier() { wait(); }

void GOMP_parallel(void (*body)(void*), void* data, unsigned size, unsigned) { parallel(body, data, size, {}); }

void GOMP_parallel_loop_nonmonotonic_dynamic(void (*body)(void*), void* data, unsigned size, long first, long end,
                                             long step, long chunk, unsigned) {
  parallel(body, data, size, {first, end, step, chunk});
}

bool GOMP_loop_nonmonotonic_dynamic_next(long* from, long* to) {
  const long turn = crew->taken[number].fetch_add(1, std::memory_order_relaxed), size = loop.chunk * loop.step;
  const long begin = loop.first + turn * size;
  if (begin >= loop.end) return false;
  *from = begin, *to = std::min(loop.end, begin + size);
  return true;
}

bool GOMP_loop_nonmonotonic_dynamic_start(long first, long end, long step, long chunk, long* from, long* to) {
  if (++number >= MOST_LOOPS || step < 1) {
    std::fputs("threads.cpp: a loop that it wasn't written for\n", stderr);
    std::abort();
  }
  loop = {first, end, step, chunk};
  return GOMP_loop_nonmonotonic_dynamic_next(from, to);
}

void GOMP_loop_end() { wait(); }

void GOMP_loop_end_nowait() {}
}
