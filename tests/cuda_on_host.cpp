// Runs the CUDA kernels on the CPU, one thread after the other, so that machines without a GPU
// can check what they compute. Each function takes a kernel's arguments as the launch does.
#include <cmath>
#include <cstdint>

struct Index {
  unsigned x;
};
static Index blockIdx, blockDim, gridDim, threadIdx;

template <typename A>
void atomicAdd(A* to, A value) {
  *to += value;
}

#include "cuda/kernels.cuh"

namespace {

// Fewer threads than there is work, so that the loops over the grid are seen to work too.
template <typename Kernel, typename... Arguments>
void launch(Kernel kernel, Arguments... arguments) {
  gridDim.x = 3;
  blockDim.x = 5;
  for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) {
    for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x) kernel(arguments...);
  }
}

template <typename T>
struct Type {
  using type = T;
};

template <typename Body>
void for_dtype(vfi::DType dtype, Body body) {
  switch (dtype) {
    case vfi::DType::float32: return body(Type<float>{});
    case vfi::DType::bfloat16: return body(Type<__nv_bfloat16>{});
    case vfi::DType::float16: return body(Type<__half>{});
    case vfi::DType::float64: return body(Type<double>{});
  }
}

}  // namespace

using vfi::CorrelationShape;
using vfi::DType;
using vfi::Sampler;
using vfi::View;

extern "C" {

void host_gather(const Sampler* s, DType dtype, const View* image, const View* out,
                 int64_t lanes) {
  for_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch(s->gaussian ? vfi::gather_kernel<T, true> : vfi::gather_kernel<T, false>, *s, *image,
           *out, lanes);
  });
}

void host_scatter(const Sampler* s, DType dtype, const View* values, const View* sums,
                  const View* weights, int64_t lanes) {
  for_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch(s->gaussian ? vfi::scatter_kernel<T, true> : vfi::scatter_kernel<T, false>, *s,
           *values, *sums, *weights, lanes);
  });
}

void host_flow_slope(const Sampler* s, DType dtype, const View* image, const View* plane,
                     const View* values, const View* slope) {
  for_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch(s->gaussian ? vfi::flow_slope_kernel<T, true> : vfi::flow_slope_kernel<T, false>, *s,
           *image, *plane, *values, *slope);
  });
}

void host_correlate(const CorrelationShape* shape, DType dtype, const View* a, const View* b,
                    const View* out) {
  for_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch(vfi::correlate_kernel<T>, *shape, *a, *b, *out);
  });
}

void host_correlate_grad(const CorrelationShape* shape, DType dtype, bool second,
                         const View* grad, const View* other, const View* out) {
  for_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch(vfi::correlate_grad_kernel<T>, *shape, second, *grad, *other, *out);
  });
}

}  // extern "C"
