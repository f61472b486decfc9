// Runs the CUDA kernels on the CPU, one thread after the other, so that machines without a GPU
// can check what they compute. Each function takes a kernel's arguments as the launch does.
#include "cuda_on_host.h"

#include "cuda/kernels.cuh"

using vfi::CorrelationShape;
using vfi::DType;
using vfi::for_dtype;
using vfi::Sampler;
using vfi::View;

namespace {

template <typename Kernel, typename... Arguments>
void launch(Kernel kernel, const Arguments&... arguments) {
  HostLaunch()(1, kernel, arguments...);
}

}  // namespace

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
