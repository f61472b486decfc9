// What the operators of all devices need of tensors: checks, views, and new tensors.
//
// Written against torch's stable ABI, as everything here: one build serves every torch from the
// version that the build targets (TORCH_TARGET_VERSION) on.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/MemoryFormat.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstddef>
#include <exception>
#include <limits>
#include <stdexcept>
#include <vector>

#include "stencil.h"

// Of torch 2.13 and later.
extern "C" __attribute__((weak, visibility("default"))) const char*
torch_exception_get_what_without_backtrace();

namespace vfi {
namespace {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Tensors = std::vector<Tensor>;
using Sizes = std::vector<int64_t>;

inline DType dtype_of(const Tensor& tensor, const char* name) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float: return DType::float32;
    case ScalarType::BFloat16: return DType::bfloat16;
    case ScalarType::Half: return DType::float16;
    case ScalarType::Double: return DType::float64;
    default: break;
  }
  STD_TORCH_CHECK(false, name, " must be float32, bfloat16, float16 or float64");
}

// The dtype of sums and coordinates.
inline ScalarType compute_type(const Tensor& tensor) {
  return tensor.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// For reading, and for what was made here: const_data_ptr leaves a lazily cloned tensor shared.
inline View view_of(const Tensor& tensor) {
  return {const_cast<void*>(tensor.const_data_ptr()), tensor.stride(0), tensor.stride(1),
          tensor.stride(2), tensor.stride(3)};
}

inline void check_picture(const Tensor& tensor, const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 4, name, " must have 4 dimensions, not ", tensor.dim());
  dtype_of(tensor, name);
  STD_TORCH_CHECK(tensor.size(2) < std::numeric_limits<int32_t>::max() &&
                      tensor.size(3) < std::numeric_limits<int32_t>::max(),
                  name, " is too large");
}

inline void check_channels_last(const Tensor& tensor, const char* name) {
  check_picture(tensor, name);
  STD_TORCH_CHECK(tensor.stride(1) == 1 || tensor.size(1) == 1, name, " must be channels-last");
}

inline void check_alike(const Tensor& tensor, const Tensor& other, const char* name,
                        const char* other_name) {
  STD_TORCH_CHECK(other.dim() == 4, other_name, " must have 4 dimensions, not ", other.dim());
  STD_TORCH_CHECK(tensor.device() == other.device(), name, " and ", other_name,
                  " must be on one device");
  STD_TORCH_CHECK(tensor.scalar_type() == other.scalar_type(), name, " and ", other_name,
                  " must have one dtype");
  for (int64_t i = 0; i < 4; ++i) {
    STD_TORCH_CHECK(tensor.size(i) == other.size(i), name, " and ", other_name,
                    " must have one shape");
  }
}

inline void check_flow(const Tensor& picture, const Tensor& flow) {
  check_picture(flow, "flow");
  STD_TORCH_CHECK(flow.device() == picture.device(), "flow must be on the picture's device");
  STD_TORCH_CHECK(flow.size(0) == picture.size(0) && flow.size(1) == 2 &&
                      flow.size(2) == picture.size(2) && flow.size(3) == picture.size(3),
                  "flow must be (B, 2, H, W) for a picture of (B, C, H, W)");
}

// The gradient of splat's second output, for a picture that was splatted.
inline void check_weight_grad(const Tensor& input, const Tensor& grad) {
  check_picture(grad, "weight_grad");
  STD_TORCH_CHECK(grad.size(0) == input.size(0) && grad.size(1) == 1 &&
                      grad.size(2) == input.size(2) && grad.size(3) == input.size(3) &&
                      grad.scalar_type() == input.scalar_type() &&
                      grad.device() == input.device(),
                  "weight_grad must be (B, 1, H, W) of the input's dtype and device");
}

inline void check_correlation(const Tensor& a, const Tensor& b, int64_t max_displacement) {
  check_picture(a, "a");
  check_picture(b, "b");
  check_alike(a, b, "a", "b");
  STD_TORCH_CHECK(max_displacement >= 0, "max_displacement must not be negative");
  STD_TORCH_CHECK(a.size(1) > 0, "a and b must have a channel at least");
}

inline void check_correlation_grad(const Tensor& grad, const Tensor& other,
                                   int64_t max_displacement) {
  check_picture(other, "other");
  check_picture(grad, "grad");
  const int64_t side = 2 * max_displacement + 1;
  STD_TORCH_CHECK(max_displacement >= 0 && grad.size(0) == other.size(0) &&
                      grad.size(1) == side * side && grad.size(2) == other.size(2) &&
                      grad.size(3) == other.size(3) &&
                      grad.scalar_type() == other.scalar_type() &&
                      grad.device() == other.device(),
                  "grad must be the cost volume's, in the picture's dtype and on its device");
}

inline Sampler make_sampler(const Tensor& picture, const Tensor& flow, bool gaussian, bool border,
                            bool align_corners) {
  return {picture.size(0), picture.size(1),      picture.size(2), picture.size(3), view_of(flow),
          dtype_of(flow, "flow"), gaussian, border, align_corners};
}

// Channels side by side, also where the picture is a slice of more channels. ops.py has the same
// rule for the fake tensors.
inline bool is_channels_last(const Tensor& tensor) {
  return tensor.size(1) > 1 && tensor.stride(1) == 1 && tensor.stride(3) >= tensor.size(1);
}

// What a function of torch makes. Of a failure the stable ABI may say only where it was; that the
// memory was too small has to be said, because the work is then done again in smaller parts.
template <typename Make>
Tensor allocated(const Make& make) {
  try {
    return make();
  } catch (const std::exception&) {
    throw std::runtime_error(torch_exception_get_what_without_backtrace == nullptr
                                 ? "no new tensor could be made, most likely out of memory"
                                 : torch_exception_get_what_without_backtrace());
  }
}

template <size_t dimensions>
Tensor new_sized(const Tensor& like, const int64_t (&sizes)[dimensions], ScalarType dtype,
                 bool channels_last = false) {
  return allocated([&] {
    return torch::stable::empty(
        {sizes, dimensions}, dtype, torch::headeronly::Layout::Strided, like.device(), false,
        channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
  });
}

inline Tensor new_tensor(const Tensor& like, int64_t channels, ScalarType dtype,
                         bool channels_last = false) {
  const int64_t sizes[4] = {like.size(0), channels, like.size(2), like.size(3)};
  return new_sized(like, sizes, dtype, channels_last);
}

inline Tensor new_sums(const Tensor& like, int64_t channels, bool channels_last = false) {
  Tensor sums = new_tensor(like, channels, compute_type(like), channels_last);
  torch::stable::zero_(sums);
  return sums;
}

inline Tensor to_dtype(const Tensor& tensor, ScalarType dtype) {
  if (tensor.scalar_type() == dtype) return tensor;
  return allocated([&] { return torch::stable::to(tensor, dtype); });
}

inline Tensor to_contiguous(const Tensor& tensor) {
  return allocated([&] { return torch::stable::contiguous(tensor); });
}

}  // namespace
}  // namespace vfi
