// The operators on CUDA devices: checks, memory and launches.
#include "../operators.h"
#include "kernels.cuh"
#include "launch.cuh"

namespace vfi {
namespace {

int64_t pixels(const Sampler& s) { return s.batch * s.height * s.width; }

// Threads of one pixel: one a channel where these lie side by side.
int64_t lanes_of(const Tensor& picture) {
  return is_channels_last(picture) ? picture.size(1) : 1;
}

Tensor gather(const Tensor& image, const Sampler& s) {
  const bool channels_last = is_channels_last(image);
  Tensor out = new_tensor(image, s.channels, image.scalar_type(), channels_last);
  if (out.numel() == 0) return out;
  const Launch launch(image);
  const int64_t lanes = lanes_of(image);
  for_dtype(dtype_of(image, "input"), [&](auto type) {
    using T = typename decltype(type)::type;
    launch(pixels(s) * lanes, s.gaussian ? gather_kernel<T, true> : gather_kernel<T, false>, s,
           view_of(image), view_of(out), lanes);
  });
  return out;
}

void scatter(const Tensor& values, const Sampler& s, const Tensor& sums, const Tensor* weights) {
  const Launch launch(values);
  const int64_t lanes = is_channels_last(sums) ? lanes_of(sums) : 1;
  const View weight_view = weights != nullptr ? view_of(*weights) : View{};
  for_dtype(dtype_of(values, "input"), [&](auto type) {
    using T = typename decltype(type)::type;
    launch(pixels(s) * lanes, s.gaussian ? scatter_kernel<T, true> : scatter_kernel<T, false>, s,
           view_of(values), view_of(sums), weight_view, lanes);
  });
}

Tensor flow_slope(const Tensor& image, const Tensor* plane, const Tensor& values,
                  const Tensor& flow, const Sampler& s) {
  const Tensor slope = new_tensor(flow, 2, compute_type(image));
  const Launch launch(image);
  const View plane_view = plane != nullptr ? view_of(*plane) : View{};
  for_dtype(dtype_of(image, "input"), [&](auto type) {
    using T = typename decltype(type)::type;
    launch(pixels(s), s.gaussian ? flow_slope_kernel<T, true> : flow_slope_kernel<T, false>, s,
           view_of(image), plane_view, view_of(values), view_of(slope));
  });
  return to_dtype(slope, flow.scalar_type());
}

// ---------------------------------------------------------------------- correlation

CorrelationShape shape_of(const Tensor& picture, int64_t radius) {
  return {picture.size(0), picture.size(1), picture.size(2), picture.size(3), radius};
}

Tensor correlation(const Tensor& a, const Tensor& b, int64_t max_displacement) {
  check_correlation(a, b, max_displacement);
  const int64_t side = 2 * max_displacement + 1;
  const Tensor out = new_tensor(a, side * side, a.scalar_type());
  const Launch launch(a);
  for_dtype(dtype_of(a, "a"), [&](auto type) {
    using T = typename decltype(type)::type;
    launch(out.numel(), correlate_kernel<T>, shape_of(a, max_displacement), view_of(a),
           view_of(b), view_of(out));
  });
  return out;
}

Tensor correlation_grad(const Tensor& grad, const Tensor& other, int64_t max_displacement,
                        bool second) {
  check_correlation_grad(grad, other, max_displacement);
  const Tensor out = new_tensor(other, other.size(1), other.scalar_type());
  const Launch launch(other);
  for_dtype(dtype_of(other, "other"), [&](auto type) {
    using T = typename decltype(type)::type;
    launch(out.numel(), correlate_grad_kernel<T>, shape_of(other, max_displacement), second,
           view_of(grad), view_of(other), view_of(out));
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(vfi, CUDA, m) { register_operators(m); }

}  // namespace vfi
