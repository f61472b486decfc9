// How kernels are started on torch's devices and streams.
#pragma once

#include <cuda_runtime.h>

#include "../tensors.h"

namespace vfi {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = int64_t(1) << 20;  // more work than this makes threads loop

// Starts kernels where a tensor is: on its device, in that device's current stream. What has
// nothing to do is not started, and what could not be started is an error.
class Launch {
 public:
  explicit Launch(const Tensor& tensor)
      : guard_(tensor.get_device_index()), device_(tensor.get_device_index()) {}

  // A thread for each piece of work.
  template <typename Kernel, typename... Arguments>
  void operator()(int64_t work, Kernel kernel, const Arguments&... arguments) const {
    blocks((work + kThreads - 1) / kThreads, kThreads, kernel, arguments...);
  }

  // So many blocks of threads; the kernel's loops make up for those that are too many to start.
  template <typename Kernel, typename... Arguments>
  void blocks(int64_t count, int threads, Kernel kernel, const Arguments&... arguments) const {
    if (count == 0) return;
    void* stream = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device_, &stream));
    kernel<<<static_cast<unsigned>(count < kMaxBlocks ? count : kMaxBlocks), threads, 0,
             static_cast<cudaStream_t>(stream)>>>(arguments...);
    const cudaError_t error = cudaGetLastError();
    STD_TORCH_CHECK(error == cudaSuccess, "a kernel could not be launched: ",
                    cudaGetErrorString(error));
  }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  int32_t device_;
};

}  // namespace
}  // namespace vfi
