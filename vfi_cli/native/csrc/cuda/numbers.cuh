// The numbers of CUDA's kernels, and which of them a thread is about.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "../stencil.h"

namespace vfi {
namespace {

template <typename T>
struct Compute {
  using type = float;
};
template <>
struct Compute<double> {
  using type = double;
};

__device__ inline float load(float x) { return x; }
__device__ inline double load(double x) { return x; }
__device__ inline float load(__half x) { return __half2float(x); }
__device__ inline float load(__nv_bfloat16 x) { return __bfloat162float(x); }

__device__ inline void store(float* to, float x) { *to = x; }
__device__ inline void store(double* to, double x) { *to = x; }
__device__ inline void store(__half* to, float x) { *to = __float2half_rn(x); }
__device__ inline void store(__nv_bfloat16* to, float x) { *to = __float2bfloat16_rn(x); }

template <typename A>
__device__ inline A load_as(const void* data, DType dtype, int64_t offset) {
  switch (dtype) {
    case DType::float32: return static_cast<A>(static_cast<const float*>(data)[offset]);
    case DType::bfloat16:
      return static_cast<A>(load(static_cast<const __nv_bfloat16*>(data)[offset]));
    case DType::float16: return static_cast<A>(load(static_cast<const __half*>(data)[offset]));
    default: return static_cast<A>(static_cast<const double*>(data)[offset]);
  }
}

template <typename T>
__device__ inline T* at(const View& view, int64_t batch, int64_t channel, int64_t y, int64_t x) {
  return static_cast<T*>(view.data) + batch * view.batch_stride + channel * view.channel_stride +
         y * view.y_stride + x * view.x_stride;
}

struct Pixel {
  int64_t batch, y, x;
};

// Division of 64 bits takes several times as long as one of 32.
__device__ inline int64_t divide(int64_t n, int64_t by) {
  return (n | by) >> 32 == 0 ? static_cast<uint32_t>(n) / static_cast<uint32_t>(by) : n / by;
}

__device__ inline Pixel pixel_of(int64_t index, int64_t height, int64_t width) {
  const int64_t row = divide(index, width), batch = divide(row, height);
  return {batch, row - batch * height, index - row * width};
}

__device__ inline int64_t first_index() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline int64_t index_step() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

// For the host: ``body`` with the type of a dtype.
template <typename T>
struct Type {
  using type = T;
};

template <typename Body>
void for_dtype(DType dtype, Body body) {
  switch (dtype) {
    case DType::float32: return body(Type<float>{});
    case DType::bfloat16: return body(Type<__nv_bfloat16>{});
    case DType::float16: return body(Type<__half>{});
    case DType::float64: return body(Type<double>{});
  }
}

}  // namespace
}  // namespace vfi
