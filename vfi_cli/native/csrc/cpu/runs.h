// How the work of an operator is divided among threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <memory>

namespace vfi {
namespace {

// ``work`` on runs of rows, each with memory of its own. The runs are long, because each begins by
// making what it shares with the one before.
template <typename Memory = float, typename Work>
void in_runs(int64_t rows, int64_t scratch, const Work& work) {
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t least = rows / (4 * threads) > 0 ? rows / (4 * threads) : 1;
  torch::stable::parallel_for(0, rows, least, [&](int64_t begin, int64_t end) {
    const std::unique_ptr<Memory[]> memory(new Memory[static_cast<size_t>(scratch)]);
    work(begin, end, memory.get());
  });
}

// ``work`` on rows, so many together as are worth waking a thread: of some ten thousand values.
template <typename Work>
void in_rows(int64_t rows, int64_t values_of_one, const Work& work) {
  const int64_t grain = values_of_one < 16384 ? 16384 / (values_of_one > 0 ? values_of_one : 1) : 1;
  torch::stable::parallel_for(0, rows, grain, work);
}

}  // namespace
}  // namespace vfi
