// The four pixels around a position and their weights: what every operator here is made of.
//
// Shared by the CPU kernels, which are compiled once for each instruction set, and by the CUDA
// kernels. Everything has internal linkage: a linker that folded equal inline functions of
// differently compiled files into one could pick an AVX-512 body for a machine without it.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define VFI_HOST_DEVICE __host__ __device__
#else
#define VFI_HOST_DEVICE
#endif

namespace vfi {

enum class DType : int32_t { float32, bfloat16, float16, float64 };

// A (B, C, H, W) tensor: strides are in elements, and may be anything.
struct View {
  void* data = nullptr;
  int64_t batch_stride = 0, channel_stride = 0, y_stride = 0, x_stride = 0;
};

// Where the pixels of a picture point to, and how the neighbours there are weighted.
struct Sampler {
  int64_t batch, channels, height, width;
  View flow;
  DType flow_dtype;
  bool gaussian;       // weights exp(-(dx² + dy²)), else bilinear
  bool border;         // positions outside are held at the edge, else their neighbours vanish
  bool align_corners;  // the position is x + u, else (x + u)·W/(W − 1) − 1/2
};

namespace {

// One axis of the picture: turns a position into the first of two neighbours, both inside of the
// picture, and their weights. A neighbour that should be outside has weight 0 instead.
template <typename A>
struct Axis {
  A scale, shift;  // position = (x + u)·scale + shift
  A low, high;     // ... held between these
  A last_first;    // the last pixel that can be the first of the two
  A second;        // 0 where the axis has one pixel and so no second neighbour, else 1
  bool border;
};

template <typename A>
VFI_HOST_DEVICE inline Axis<A> make_axis(int64_t size, const Sampler& sampler) {
  Axis<A> axis;
  const A count = static_cast<A>(size);
  axis.scale = sampler.align_corners ? A(1) : count / (size > 1 ? count - 1 : A(1));
  axis.shift = sampler.align_corners ? A(0) : A(-0.5);
  axis.low = sampler.border ? A(0) : A(-2);
  axis.high = sampler.border ? count - 1 : count + 1;
  axis.last_first = size > 1 ? count - 2 : A(0);
  axis.second = size > 1 ? A(1) : A(0);
  axis.border = sampler.border;
  return axis;
}

template <typename A>
struct Neighbours {
  int32_t first;
  A weight0, weight1;
  A slope0, slope1;  // derivatives of the weights with respect to u
};

VFI_HOST_DEVICE inline float floor_of(float x) { return ::floorf(x); }
VFI_HOST_DEVICE inline double floor_of(double x) { return ::floor(x); }

// exp(-z) for 0 ≤ z ≤ 1, to 1e-7: a Chebyshev fit, because a
// polynomial is vectorised where a call of expf is not.
VFI_HOST_DEVICE inline float exp_minus(float z) {
  float y = -0.000121286839f;
  y = y * z + 0.00127445854f;
  y = y * z - 0.00824086478f;
  y = y * z + 0.0416245018f;
  y = y * z - 0.166656129f;
  y = y * z + 0.4999987f;
  y = y * z - 0.999999939f;
  return y * z + 1.0f;
}
VFI_HOST_DEVICE inline double exp_minus(double z) { return ::exp(-z); }

template <bool gaussian, typename A>
VFI_HOST_DEVICE inline A weight_at(A distance) {
  if (gaussian) {
    // The neighbours are floor(position) and the next, whichever is this one.
    const A z = distance * distance;
    const A w = exp_minus(z < A(1) ? z : A(1));
    return distance >= A(-1) && distance < A(1) ? w : A(0);
  }
  const A w = A(1) - (distance < A(0) ? -distance : distance);
  return w > A(0) ? w : A(0);
}

template <bool gaussian, typename A>
VFI_HOST_DEVICE inline A slope_at(A distance, A weight) {
  if (gaussian) {
    return A(-2) * distance * weight;
  }
  return distance >= A(0) ? (distance < A(1) ? A(-1) : A(0))
                          : (distance >= A(-1) ? A(1) : A(0));
}

// ``position`` is x + u. The comparisons are written so that NaN goes to ``low``.
template <bool gaussian, typename A>
VFI_HOST_DEVICE inline Neighbours<A> neighbours_at(A position, const Axis<A>& axis) {
  Neighbours<A> n;
  const A wanted = position * axis.scale + axis.shift;
  A p = wanted > axis.low ? wanted : axis.low;
  p = p < axis.high ? p : axis.high;
  A first = floor_of(p);
  first = first > A(0) ? first : A(0);
  first = first < axis.last_first ? first : axis.last_first;
  const A distance = p - first;
  n.first = static_cast<int32_t>(first);
  n.weight0 = weight_at<gaussian>(distance);
  n.weight1 = weight_at<gaussian>(distance - A(1)) * axis.second;
  // At an edge that holds the position it no longer follows the flow.
  const bool follows = !axis.border || (wanted > axis.low && wanted < axis.high);
  const A rate = follows ? axis.scale : A(0);
  n.slope0 = slope_at<gaussian>(distance, n.weight0) * rate;
  n.slope1 = slope_at<gaussian>(distance - A(1), n.weight1) * rate * axis.second;
  return n;
}

}  // namespace
}  // namespace vfi
