// The operators in terms of what each device has: gathering, scattering and the flow's derivative.
//
// A warp gathers, and its derivative scatters; a splat scatters, and its derivative gathers. The
// correlations have nothing in common with these, and each device its own.
#pragma once

#include <tuple>

#include "tensors.h"

namespace vfi {
namespace {

// For each device to define.

// out(x) = Σ weight·image(neighbour), in the image's dtype and memory format.
Tensor gather(const Tensor& image, const Sampler& sampler);

// sums(neighbour) += weight·values(x), and weights(neighbour) += weight where ``weights`` is given.
void scatter(const Tensor& values, const Sampler& sampler, const Tensor& sums,
             const Tensor* weights);

// The derivative of Σ values·gather(image) with respect to the flow; ``plane``, where it is given,
// is one more channel of the image, whose values are 1.
Tensor flow_slope(const Tensor& image, const Tensor* plane, const Tensor& values,
                  const Tensor& flow, const Sampler& sampler);

Tensor correlation(const Tensor& a, const Tensor& b, int64_t max_displacement);
Tensor correlation_grad(const Tensor& grad, const Tensor& other, int64_t max_displacement,
                        bool second);

// ------------------------------------------------------------------------- backwarp

Tensor backwarp(const Tensor& input, const Tensor& flow, bool border, bool align_corners) {
  check_picture(input, "input");
  check_flow(input, flow);
  return gather(input, make_sampler(input, flow, false, border, align_corners));
}

Tensor backwarp_input_grad(const Tensor& grad, const Tensor& flow, bool border,
                           bool align_corners, bool channels_last) {
  check_picture(grad, "grad");
  check_flow(grad, flow);
  const Tensor sums = new_sums(grad, grad.size(1), channels_last);
  scatter(grad, make_sampler(grad, flow, false, border, align_corners), sums, nullptr);
  return to_dtype(sums, grad.scalar_type());
}

Tensor backwarp_flow_grad(const Tensor& grad, const Tensor& input, const Tensor& flow,
                          bool border, bool align_corners) {
  check_picture(input, "input");
  check_alike(input, grad, "input", "grad");
  check_flow(input, flow);
  return flow_slope(input, nullptr, grad, flow,
                    make_sampler(input, flow, false, border, align_corners));
}

// ---------------------------------------------------------------------------- splat

std::tuple<Tensor, Tensor> splat(const Tensor& input, const Tensor& flow, bool gaussian) {
  check_picture(input, "input");
  check_flow(input, flow);
  const Tensor sums = new_sums(input, input.size(1));
  const Tensor weights = new_sums(input, 1);
  scatter(input, make_sampler(input, flow, gaussian, false, true), sums, &weights);
  return {to_dtype(sums, input.scalar_type()), to_dtype(weights, input.scalar_type())};
}

Tensor splat_input_grad(const Tensor& grad, const Tensor& flow, bool gaussian) {
  check_picture(grad, "grad");
  check_flow(grad, flow);
  return gather(grad, make_sampler(grad, flow, gaussian, false, true));
}

Tensor splat_flow_grad(const Tensor& grad, const Tensor& weight_grad, const Tensor& input,
                       const Tensor& flow, bool gaussian) {
  check_picture(input, "input");
  check_alike(input, grad, "input", "grad");
  check_flow(input, flow);
  check_weight_grad(input, weight_grad);
  return flow_slope(grad, &weight_grad, input, flow,
                    make_sampler(input, flow, gaussian, false, true));
}

// ----------------------------------------------------------------------------------

inline void register_operators(torch::stable::detail::StableLibrary& m) {
  m.impl("backwarp", TORCH_BOX(&backwarp));
  m.impl("backwarp_input_grad", TORCH_BOX(&backwarp_input_grad));
  m.impl("backwarp_flow_grad", TORCH_BOX(&backwarp_flow_grad));
  m.impl("splat", TORCH_BOX(&splat));
  m.impl("splat_input_grad", TORCH_BOX(&splat_input_grad));
  m.impl("splat_flow_grad", TORCH_BOX(&splat_flow_grad));
  m.impl("correlation", TORCH_BOX(&correlation));
  m.impl("correlation_grad", TORCH_BOX(&correlation_grad));
}

}  // namespace
}  // namespace vfi
