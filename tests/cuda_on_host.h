// What kernels find on a GPU, on the CPU: a block's threads take turns, from barrier to barrier.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

struct Index {
  unsigned x;
};
static Index blockIdx, blockDim, gridDim, threadIdx;

template <typename A>
void atomicAdd(A* to, A value) {
  *to += value;
}

class Threads {
 public:
  // All ``body`` of a block. What lies between two barriers runs thread by thread.
  void run(unsigned count, const std::function<void()>& body) {
    body_ = &body;
    threads_.resize(count);
    for (Thread& thread : threads_) {
      thread.stack.resize(1 << 17);
      thread.done = false;
      getcontext(&thread.context);
      thread.context.uc_stack.ss_sp = thread.stack.data();
      thread.context.uc_stack.ss_size = thread.stack.size();
      thread.context.uc_link = &back_;
      makecontext(&thread.context, [] { here().enter(); }, 0);
    }
    for (unsigned done = 0; done < count;) {
      for (threadIdx.x = 0; threadIdx.x < count; ++threadIdx.x) {
        swapcontext(&back_, &threads_[threadIdx.x].context);
        done += threads_[threadIdx.x].done ? 1 : 0;
      }
      if (done != 0 && done != count) {
        std::fprintf(stderr, "a barrier that only some threads of a block reach\n");
        std::abort();
      }
    }
  }

  void wait() { swapcontext(&threads_[threadIdx.x].context, &back_); }

  static Threads& here() {
    static Threads threads;
    return threads;
  }

 private:
  struct Thread {
    ucontext_t context;
    std::vector<char> stack;
    bool done;
  };

  void enter() {
    (*body_)();
    threads_[threadIdx.x].done = true;
  }

  const std::function<void()>* body_ = nullptr;
  std::vector<Thread> threads_;
  ucontext_t back_;
};

inline void __syncthreads() { Threads::here().wait(); }

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#undef __shared__
#define __shared__ static

// Fewer threads than there is work, so that the loops over the grid are seen to work too.
struct HostLaunch {
  template <typename Kernel, typename... Arguments>
  void operator()(int64_t work, Kernel kernel, const Arguments&... arguments) const {
    blocks(work, 0, kernel, arguments...);
  }

  template <typename Kernel, typename... Arguments>
  void blocks(int64_t count, int /*threads*/, Kernel kernel, const Arguments&... arguments) const {
    if (count == 0) return;
    gridDim.x = 3;
    blockDim.x = 5;
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) {
      Threads::here().run(blockDim.x, [&] { kernel(arguments...); });
    }
  }
};
