// The threads of kernels by themselves: `threads WHAT`, which ends with 0 if all is as it should be.

#include "threads.h"

#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

using fidkit::Crew;
using fidkit::Worker;
using fidkit::pool;

namespace {

void expect(bool right, const char* what) {
  if (right) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  std::_Exit(3);
}

void sleep_ns(int64_t ns) {
  const timespec time{ns / 1'000'000'000, ns % 1'000'000'000};
  nanosleep(&time, nullptr);
}

// Threads that have taken part in a call, behind a stage for one alone; items take longer than a worker to wake.
size_t threads_of_a_call(int threads, int64_t items = 40) {
  std::vector<pthread_t> by(static_cast<size_t>(items));
  with_threads(threads, [&](const Team& team) {
    team.each(1, [](int64_t) { sleep_ns(3'000'000); });
    team.each(items, [&](int64_t i) { by[static_cast<size_t>(i)] = pthread_self(), sleep_ns(1'000'000); });
  });
  return std::set<pthread_t>(by.begin(), by.end()).size();
}

template <class F>
void at_once(int callers, F f) {
  struct Caller {
    F* f;
    int number;
    pthread_t thread;
  };
  std::vector<Caller> made(static_cast<size_t>(callers));
  for (int i = 0; i < callers; ++i) {
    Caller& caller = made[static_cast<size_t>(i)];
    caller = {&f, i, {}};
    const auto start = [](void* of) -> void* {
      const Caller& caller = *static_cast<Caller*>(of);
      return (*caller.f)(caller.number), nullptr;
    };
    expect(!pthread_create(&caller.thread, nullptr, start, &caller), "a thread could be made");
  }
  for (Caller& caller : made) pthread_join(caller.thread, nullptr);
}

// Each item is done once, and a stage sees all that the one before it wrote.
void call(int threads, int64_t n) {
  std::vector<int64_t> here(static_cast<size_t>(n)), there(static_cast<size_t>(n));
  constexpr int STAGES = 12;
  with_threads(threads, [&](const Team& team) {
    for (int stage = 0; stage < STAGES; ++stage) {
      auto& from = stage % 2 ? there : here;
      auto& to = stage % 2 ? here : there;
      const auto step = [&](int64_t i) { to[static_cast<size_t>(i)] += from[static_cast<size_t>((i + 1) % n)] + 1; };
      if (stage % 3)
        team.each(n, step);
      else
        team.share(n, 4, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) step(i);
        });
      team.each(0, [](int64_t) { expect(false, "there is nothing in an empty stage"); });
    }
  });
  int64_t a = 0, b = 0;
  for (int stage = 0; stage < STAGES; ++stage) stage % 2 ? a += b + 1 : b += a + 1;
  for (int64_t i = 0; i < n; ++i)
    expect(here[static_cast<size_t>(i)] == a && there[static_cast<size_t>(i)] == b, "all items are done once");
}

void stages() {
  for (const int threads : {-1, 0, 1, 2, 3, 16, 10'000})
    for (const int callers : {1, 2, 8})
      at_once(callers, [&](int caller) {
        for (int64_t n = 1; n < 120; n += 7 + caller) call(threads, n);
      });
}

// Memory that runs out in one thread ends the call, and no other.
void failure() {
  at_once(4, [](int caller) {
    for (int64_t round = 0; round < 300; ++round) {
      const int64_t bad = (round * 7 + caller) % 90;
      bool failed = false;
      try {
        with_threads(4, [&](const Team& team) {
          for (int stage = 0; stage < 3; ++stage)
            team.each(30, [&](int64_t i) {
              if (stage * 30 + i == bad) throw std::bad_alloc();
            });
        });
      } catch (const std::bad_alloc&) {
        failed = true;
      }
      expect(failed, "what a thread throws arrives");
      call(4, 20);
    }
  });
}

void forked() {
  expect(threads_of_a_call(2) == 2, "a call has two threads");
  for (int depth = 0; depth < 2; ++depth) {
    const pid_t child = fork();
    if (!child) {
      expect(threads_of_a_call(2) == 2, "a call of a child has two threads");
      continue;
    }
    int status = 1;
    waitpid(child, &status, 0);
    expect(status == 0, "the child ends well");
    expect(threads_of_a_call(2) == 2, "a call of the parent has two threads again");
    std::_Exit(0);
  }
}

int64_t cpu_ns() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

void idle() {
  expect(threads_of_a_call(4) == 4, "a call has four threads");
  const int64_t before = cpu_ns();
  sleep_ns(300'000'000);
  expect(cpu_ns() - before < 10'000'000, "threads without work take no core");
  // Nor do those that wait for the last one in a stage.
  with_threads(2, [&](const Team& team) { team.each(1, [&](int64_t) { sleep_ns(300'000'000); }); });
  expect(cpu_ns() - before < 20'000'000, "threads that wait for others take no core");
}

// Where calls under way have as many threads as another one may use, it is alone.
void shared() {
  std::atomic<bool> begun{false}, over{false};
  at_once(2, [&](int caller) {
    if (caller == 0) {
      with_threads(2, [&](const Team& team) {
        team.each(2, [&](int64_t) {
          begun = true;
          while (!over) sleep_ns(1'000'000);
        });
      });
    } else {
      while (!begun) sleep_ns(1'000'000);
      const size_t two = threads_of_a_call(2), four = threads_of_a_call(4);
      over = true;
      expect(two == 1, "one of two calls is alone on two cores");
      expect(four == 2, "and has those that the other leaves of four");
    }
  });
  expect(threads_of_a_call(2) == 2, "afterwards a call has them again");
}

// A worker that doesn't come, because its core is another process's, is not waited for.
void absent() {
  pool.take(1), pool.take(1);  // for the balance of who works
  Crew* crew = new Crew;
  crew->size = 2;
  crew->workers = new Worker;  // of no thread
  pool.give_back(crew);
  for (int i = 0; i < 100; ++i) call(2, 50);
  expect(threads_of_a_call(2) == 1, "it was the one that was asked");
}

}  // namespace

int main(int count, char** words) {
  const std::string what = count > 1 ? words[1] : "";
  if (what == "stages") stages();
  else if (what == "failure") failure();
  else if (what == "fork") forked();
  else if (what == "idle") idle();
  else if (what == "shared") shared();
  else if (what == "absent") absent();
  else return std::fputs("threads stages|failure|fork|idle|shared|absent\n", stderr), 2;
}
