// The smaller kernels of inference: what goes from pixel to pixel in channels-last tensors. Each
// thread makes some channels of a pixel; neighbouring threads make neighbouring channels.
#pragma once

#include "../motion.h"
#include "lanes.cuh"

namespace vfi {
namespace {

// ``count`` channels of prelu(x).
template <int count>
__device__ inline void apply_slopes(const float* slopes, float* x) {
#pragma unroll
  for (int i = 0; i < count; ++i) x[i] = x[i] > 0.0f ? x[i] : x[i] * slopes[i];
}

template <int count, typename T>
__device__ inline void add_lanes(const T* from, float* x) {
  float more[count];
  load_lanes<count>(from, more);
#pragma unroll
  for (int i = 0; i < count; ++i) x[i] += more[i];
}

template <typename T, int lanes>
__global__ void pack_kernel(const Pack p) {
  const int64_t runs = p.channels / lanes, count = p.batch * p.height * p.width * runs;
  for (int64_t index = first_index(); index < count; index += index_step()) {
    const int64_t number = divide(index, runs), first = (index - number * runs) * lanes;
    const Pixel pixel = pixel_of(number, p.height, p.width);
    const int64_t features = p.features.channels;
    const T* point = features > 0 ? point_at<T>(p.features.tiles, p.side, features, pixel) : nullptr;
    float values[lanes];
#pragma unroll
    for (int i = 0; i < lanes; ++i) {
      const int64_t c = first + i;
      values[i] = c < 3 ? *at<float>(p.picture, pixel.batch, c, pixel.y, pixel.x)
                        : (c < 3 + features ? load(point[c - 3]) : 0.0f);
    }
    store_lanes<lanes>(at<T>(p.out, pixel.batch, 0, pixel.y, pixel.x) + first, values);
  }
}

template <typename Launch>
void perform(const Launch& launch, DType dtype, const Pack& p) {
  for_values(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    for_lanes<T>({p.channels}, {p.out}, [&](auto lanes) {
      launch(p.batch * p.height * p.width * (p.channels / lanes.value),
             pack_kernel<T, decltype(lanes)::value>, p);
    });
  });
}

template <typename T, int lanes>
__global__ void activate_kernel(const Activation p) {
  const int64_t runs = p.channels / lanes, count = p.pixels * runs;
  for (int64_t index = first_index(); index < count; index += index_step()) {
    const int64_t channel = (index - divide(index, runs) * runs) * lanes, offset = index * lanes;
    float x[lanes];
    load_lanes<lanes>(static_cast<const T*>(p.in) + offset, x);
    if (p.before != nullptr) add_lanes<lanes>(static_cast<const T*>(p.before) + offset, x);
    apply_slopes<lanes>(p.slopes + channel, x);
    if (p.after != nullptr) add_lanes<lanes>(static_cast<const T*>(p.after) + offset, x);
    store_lanes<lanes>(static_cast<T*>(p.out) + offset, x);
  }
}

template <typename Launch>
void perform(const Launch& launch, DType dtype, const Activation& p) {
  const auto view = [](const void* data) { return View{const_cast<void*>(data)}; };
  for_values(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    for_lanes<T>({p.channels}, {view(p.in), view(p.before), view(p.after)}, [&](auto lanes) {
      launch(p.pixels * (p.channels / lanes.value), activate_kernel<T, decltype(lanes)::value>, p);
    });
  });
}

template <typename T, int lanes>
__global__ void untile_kernel(const Untile p) {
  const int64_t runs = (p.channels + p.skip_channels) / lanes;
  const int64_t count = p.batch * p.height * p.width * runs;
  for (int64_t index = first_index(); index < count; index += index_step()) {
    const int64_t number = divide(index, runs), first = (index - number * runs) * lanes;
    const Pixel pixel = pixel_of(number, p.height, p.width);
    T* out = at<T>(p.out, pixel.batch, 0, pixel.y, pixel.x) + first;
    if (first >= p.channels) {
      copy_lanes<lanes>(
          at<T>(p.skip, pixel.batch, 0, pixel.y, pixel.x) + (first - p.channels), out);
      continue;
    }
    float x[lanes];
    load_lanes<lanes>(point_at<T>(p.tiles, p.side, p.channels, pixel) + first, x);
    apply_slopes<lanes>(p.slopes + first, x);
    store_lanes<lanes>(out, x);
  }
}

template <typename Launch>
void perform(const Launch& launch, DType dtype, const Untile& p) {
  for_values(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    for_lanes<T>({p.channels, p.skip_channels}, {p.tiles, p.skip, p.out}, [&](auto lanes) {
      launch(p.batch * p.height * p.width * ((p.channels + p.skip_channels) / lanes.value),
             untile_kernel<T, decltype(lanes)::value>, p);
    });
  });
}

template <typename T, int lanes>
__global__ void warp_concat_kernel(const WarpConcat p) {
  const int64_t runs = (p.first_channels + 2 * p.channels) / lanes;
  const int64_t count = p.batch * p.height * p.width * runs;
  for (int64_t index = first_index(); index < count; index += index_step()) {
    const int64_t number = divide(index, runs), channel = (index - number * runs) * lanes;
    const Pixel pixel = pixel_of(number, p.height, p.width);
    T* out = at<T>(p.out, pixel.batch, 0, pixel.y, pixel.x) + channel;
    if (channel < p.first_channels) {
      copy_lanes<lanes>(at<T>(p.first, pixel.batch, 0, pixel.y, pixel.x) + channel, out);
      continue;
    }
    const bool second = channel >= p.first_channels + p.channels;
    const View& view = second ? p.features1 : p.features0;
    const float* u = at<float>(p.flow, pixel.batch, second ? 2 : 0, pixel.y, pixel.x);
    const Place place = find_place(static_cast<float>(pixel.x) + u[0],
                                   static_cast<float>(pixel.y) + u[p.flow.channel_stride],
                                   p.height, p.width, view);
    const int64_t of_side = channel - p.first_channels - (second ? p.channels : 0);
    float sum[lanes] = {};
    add_sample<lanes>(at<T>(view, pixel.batch, 0, 0, 0) + of_side, view, place, sum);
    store_lanes<lanes>(out, sum);
  }
}

template <typename Launch>
void perform(const Launch& launch, DType dtype, const WarpConcat& p) {
  for_values(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    for_lanes<T>({p.first_channels, p.channels}, {p.first, p.features0, p.features1, p.out},
                 [&](auto lanes) {
                   launch(p.batch * p.height * p.width *
                              ((p.first_channels + 2 * p.channels) / lanes.value),
                          warp_concat_kernel<T, decltype(lanes)::value>, p);
                 });
  });
}

}  // namespace
}  // namespace vfi
