// Threads that share the work of a call.
//
// `with_threads(count, body)` runs body(team) on the calling thread and on workers, which stay from call to call. All
// go through the same stages of work, `team.each`, and take what of a stage is still to be done: nobody waits for a
// thread that has nothing in its hands, so a worker whose core is another process's makes no call slower than it is
// without. Who waits, for the end of a stage or for work, looks for some microseconds whether it is time, and then
// sleeps until it is woken: threads that have nothing to do take no core from anybody.
//
// There is one set of workers in a process, for all calls at once. A call gets as many as leave no core with two
// threads: one call has all cores, and of many at once each has its own thread.

#pragma once

#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <new>
#ifdef __linux__
#include <sched.h>
#endif

// Two halves of a library (kernels.cpp) have one set of workers; two libraries in a process don't.
namespace fidkit __attribute__((visibility("hidden"))) {

constexpr int MOST_THREADS = 1024;

// How long threads look before they sleep. To be woken takes as long, on a virtual machine; twice this makes no step
// of a decoder faster, and a fifth of it costs a tenth.
constexpr int64_t LOOKING_NS = 50'000;

inline int64_t now_ns() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

inline void rest() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

// A number that threads wait for to change. One that has been used is never freed: who changes it may still be
// about to wake others when those are already gone. It has cache lines of its own, which only a change takes from those
// who look.
class alignas(64) Awaited {
 public:
  uint32_t number() const { return count.load(); }

  void advance() {
    ++count;
    if (!sleeping.load()) return;
    // Whoever saw the old number holds the lock until it sleeps.
    pthread_mutex_lock(&lock);
    pthread_mutex_unlock(&lock);
    pthread_cond_broadcast(&changed);
  }

  void wait_while(uint32_t old, int64_t looking_ns) {
    for (const int64_t end = looking_ns ? now_ns() + looking_ns : 0; looking_ns;) {
      for (int i = 0; i < 16; ++i) {
        if (number() != old) return;
        rest();
      }
      if (now_ns() >= end) break;
    }
    pthread_mutex_lock(&lock);
    ++sleeping;
    while (number() == old) pthread_cond_wait(&changed, &lock);
    --sleeping;
    pthread_mutex_unlock(&lock);
  }

 private:
  std::atomic<uint32_t> count{0};
  std::atomic<int> sleeping{0};
  pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
};

class Team;

// What the threads of one call share.
struct Crew {
  void (*body)(const void*, const Team&) = nullptr;
  const void* data = nullptr;
  int size = 1;
  int64_t looking_ns = 0;
  struct Worker* workers = nullptr;
  Crew* next = nullptr;  // in a list of those without work
  std::atomic<bool> failed{false};  // a thread found no memory: the others stop where they wait
  std::atomic<int> left{0};         // workers that are through
  alignas(64) std::atomic<uint64_t> turn{0};  // the stage, and the next item of it in the lower 32 bits
  std::atomic<int64_t> done{0};               // items of the stage
  Awaited news;  // of stages, failures and workers that left
};

struct Worker {
  std::atomic<Crew*> crew{nullptr};  // to be joined
  Awaited calls;
  Worker* next = nullptr;  // in the crew, or in a list of those without work
};

// A thread's view of its call.
class Team {
 public:
  const int size = 1;

  Team() = default;
  explicit Team(Crew* crew) : size(crew->size), crew(crew) {}

  // A stage: calls f(i) for each i < n, on whichever threads are free; returns when all are done, and what they
  // wrote can be read. All threads of a call go through the same stages. What is not f's may be changed by others
  // meanwhile: a thread that comes late goes through stages that are over.
  template <class F>
  void each(int64_t n, const F& f) const {
    if (!crew)
      for (int64_t i = 0; i < n; ++i) f(i);
    else if (n > 0)
      take_part(n, f);
  }

  // Calls f(begin, end) for parts of n items, whole groups of `grain`: some for each thread.
  template <class F>
  void share(int64_t n, int64_t grain, const F& f) const {
    const int64_t groups = (n + grain - 1) / grain, parts = parts_of(n, grain);
    each(parts, [&](int64_t i) {
      f(groups * i / parts * grain, std::min(n, groups * (i + 1) / parts * grain));
    });
  }

  // How many parts `share` makes.
  int64_t parts_of(int64_t n, int64_t grain) const {
    return std::min<int64_t>((n + grain - 1) / grain, size > 1 ? PARTS * size : 1);
  }

 private:
  static constexpr int PARTS = 2;

  template <class F>
  void take_part(int64_t n, const F& f) const {
    uint64_t turn = crew->turn.load();
    while (turn >> 32 == stage && static_cast<int64_t>(turn & UINT32_MAX) < n) {
      if (!crew->turn.compare_exchange_weak(turn, turn + 1)) continue;
      f(static_cast<int64_t>(turn & UINT32_MAX));
      if (crew->done.fetch_add(1) + 1 == n) {
        crew->done.store(0);
        crew->turn.store((stage + 1) << 32);
        crew->news.advance();
      }
      turn = crew->turn.load();
    }
    for (;;) {
      const uint32_t now = crew->news.number();
      if (crew->failed.load()) throw std::bad_alloc();
      if (crew->turn.load() >> 32 != stage) break;
      crew->news.wait_while(now, crew->looking_ns);
    }
    ++stage;
  }

  Crew* crew = nullptr;
  mutable uint64_t stage = 0;
};

// The workers of this process.
class Pool {
 public:
  // A crew of at most `threads`, itself at most MOST_THREADS, with its workers, or null if there are none to be had.
  Crew* take(int threads) {
    pthread_mutex_lock(&lock);
    const int wanted = threads - 1 - working;
    ++working;
    Crew* crew = wanted > 0 ? idle_crew() : nullptr;
    for (int i = 0; crew && i < wanted; ++i) {
      Worker* worker = idle_worker();
      if (!worker) break;
      worker->next = crew->workers;
      crew->workers = worker;
      ++crew->size, ++working;
    }
    if (crew) crew->looking_ns = working <= cores ? LOOKING_NS : 0;
    pthread_mutex_unlock(&lock);
    return crew;
  }

  void give_back(Crew* crew) {
    pthread_mutex_lock(&lock);
    --working;
    if (crew) {
      working -= crew->size - 1;
      while (Worker* worker = crew->workers) {
        crew->workers = worker->next;
        worker->next = workers;
        workers = worker;
      }
      crew->next = crews;
      crews = crew;
    }
    pthread_mutex_unlock(&lock);
  }

 private:
  Crew* idle_crew() {
    Crew* crew = crews;
    if (crew)
      crews = crew->next;
    else
      crew = new (std::nothrow) Crew;
    if (!crew) return nullptr;
    crew->size = 1, crew->workers = nullptr;
    crew->failed = false, crew->left = 0, crew->turn = 0, crew->done = 0;
    return crew;
  }

  Worker* idle_worker() {
    if (Worker* worker = workers) {
      workers = worker->next;
      return worker;
    }
    return hired();
  }

  Worker* hired();

  pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  Crew* crews = nullptr;
  Worker* workers = nullptr;
  int working = 0;  // threads in calls
  int cores = 0;
  bool forks = false;  // whether a child of this process will forget the workers, which it doesn't have

  friend void forget_workers();
};

// Constant from the start and never destroyed: threads may call while the process ends.
inline Pool pool;

inline void forget_workers() {
  pool = Pool();
  pool.forks = true;
}

// A call's work, on one of its threads.
inline void work(Crew* crew) {
  try {
    crew->body(crew->data, Team(crew));
  } catch (...) {
    crew->failed.store(true);
    crew->news.advance();
  }
}

inline void* live(void* of) {
  Worker& worker = *static_cast<Worker*>(of);
  uint32_t seen = 0;
  for (int64_t looking_ns = 0;;) {
    worker.calls.wait_while(seen, looking_ns);
    seen = worker.calls.number();
    Crew* crew = worker.crew.exchange(nullptr);
    if (!crew) continue;  // it has ended already
    looking_ns = crew->looking_ns;
    work(crew);
    ++crew->left;
    crew->news.advance();
  }
}

inline Worker* Pool::hired() {
  if (!forks) forks = pthread_atfork(nullptr, nullptr, forget_workers) == 0;
#ifdef __linux__
  cpu_set_t mine;
  cores = sched_getaffinity(0, sizeof mine, &mine) ? 1 : CPU_COUNT(&mine);
#else
  cores = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
#endif
  Worker* worker = new (std::nothrow) Worker;
  if (!worker) return nullptr;
  // Signals are for the program's own threads, but for those of a fault, which are for whoever reports faults.
  sigset_t all, before;
  sigfillset(&all);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) sigdelset(&all, fault);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const bool made = !pthread_create(&thread, nullptr, live, worker);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!made) return delete worker, nullptr;
  pthread_detach(thread);
  return worker;
}

// Calls body(team) on at most `threads` threads; returns when all are through.
//
// Throws std::bad_alloc where one of them found no memory.
template <class Body>
void with_threads(int64_t threads, const Body& body) {
  if (threads < 2) return body(Team());
  Crew* crew = pool.take(static_cast<int>(std::min<int64_t>(threads, MOST_THREADS)));
  if (!crew) {
    struct Back {
      ~Back() { pool.give_back(nullptr); }
    } back;
    return body(Team());
  }
  crew->body = [](const void* data, const Team& team) { (*static_cast<const Body*>(data))(team); };
  crew->data = &body;
  for (Worker* worker = crew->workers; worker; worker = worker->next) {
    worker->crew.store(crew);
    worker->calls.advance();
  }
  work(crew);
  int joined = 0;
  for (Worker* worker = crew->workers; worker; worker = worker->next) joined += !worker->crew.exchange(nullptr);
  for (;;) {
    const uint32_t now = crew->news.number();
    if (crew->left.load() == joined) break;
    crew->news.wait_while(now, crew->looking_ns);
  }
  const bool failed = crew->failed.load();
  pool.give_back(crew);
  if (failed) throw std::bad_alloc();
}

}  // namespace fidkit

using fidkit::Team;
using fidkit::with_threads;
