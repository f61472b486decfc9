// Channels that lie side by side: how many of them a thread moves at once, and how it samples
// them where the flow points.
#pragma once

#include <cstddef>
#include <initializer_list>

#include "numbers.cuh"

namespace vfi {
namespace {

// So many numbers, read and written by one instruction; their address is a multiple of their size.
template <typename T, int count>
struct alignas(count * sizeof(T)) Lanes {
  T values[count];
};

template <int count, typename T>
__device__ inline void load_lanes(const T* from, float* to) {
  const Lanes<T, count> lanes = *reinterpret_cast<const Lanes<T, count>*>(from);
#pragma unroll
  for (int i = 0; i < count; ++i) to[i] = load(lanes.values[i]);
}

template <int count, typename T>
__device__ inline void store_lanes(T* to, const float* from) {
  Lanes<T, count> lanes;
#pragma unroll
  for (int i = 0; i < count; ++i) store(&lanes.values[i], from[i]);
  *reinterpret_cast<Lanes<T, count>*>(to) = lanes;
}

template <int count, typename T>
__device__ inline void copy_lanes(const T* from, T* to) {
  *reinterpret_cast<Lanes<T, count>*>(to) = *reinterpret_cast<const Lanes<T, count>*>(from);
}

template <int number>
struct Count {
  static constexpr int value = number;
};

// For the host: ``body`` with how many channels a thread takes. They fill 16 bytes, or are four,
// where all ``channels`` are multiples of them and all views lie right for them; else it is one.
template <typename T, typename Body>
void for_lanes(std::initializer_list<int64_t> channels, std::initializer_list<View> views,
               Body body) {
  const auto fits = [&](int64_t count) {
    bool all = true;
    for (const int64_t n : channels) all = all && n % count == 0;
    for (const View& view : views) {
      const auto address = reinterpret_cast<uintptr_t>(view.data);
      all = all && address % (static_cast<size_t>(count) * sizeof(T)) == 0 &&
            view.batch_stride % count == 0 && view.y_stride % count == 0 &&
            view.x_stride % count == 0;
    }
    return all;
  };
  constexpr int most = 16 / sizeof(T);
  if (fits(most)) return body(Count<most>{});
  if (fits(4)) return body(Count<4>{});
  body(Count<1>{});
}

// Four pixels of a picture whose edges are repeated, and their weights.
struct Place {
  int32_t base;
  float w00, w01, w10, w11;
};

// The comparisons are written so that NaN goes to 0. The picture has two pixels each way at least.
__device__ inline Place find_place(float x, float y, int64_t height, int64_t width,
                                   const View& picture) {
  const float right = static_cast<float>(width - 1), bottom = static_cast<float>(height - 1);
  x = x > 0.0f ? x : 0.0f;
  y = y > 0.0f ? y : 0.0f;
  x = x < right ? x : right;
  y = y < bottom ? y : bottom;
  const int32_t last_x = static_cast<int32_t>(width - 2);
  const int32_t last_y = static_cast<int32_t>(height - 2);
  int32_t x0 = static_cast<int32_t>(x), y0 = static_cast<int32_t>(y);
  x0 = x0 < last_x ? x0 : last_x;
  y0 = y0 < last_y ? y0 : last_y;
  const float fx = x - static_cast<float>(x0), fy = y - static_cast<float>(y0);
  const float both = fx * fy;
  // What is sampled is addressed with 32 bits; see check_sampled.
  const int32_t base = y0 * static_cast<int32_t>(picture.y_stride) +
                       x0 * static_cast<int32_t>(picture.x_stride);
  return {base, 1.0f - fx - fy + both, fx - both, fy - both, both};
}

// sum += the picture there, ``count`` channels from that which ``picture`` points to.
template <int count, typename T>
__device__ inline void add_sample(const T* picture, const View& view, const Place& place,
                                  float* sum) {
  const T* top = picture + place.base;
  const T* bottom = top + view.y_stride;
  float v00[count], v01[count], v10[count], v11[count];
  load_lanes<count>(top, v00);
  load_lanes<count>(top + view.x_stride, v01);
  load_lanes<count>(bottom, v10);
  load_lanes<count>(bottom + view.x_stride, v11);
#pragma unroll
  for (int i = 0; i < count; ++i) {
    sum[i] += v00[i] * place.w00 + v01[i] * place.w01 + v10[i] * place.w10 + v11[i] * place.w11;
  }
}

// Where point ``i`` of a grid is along an axis of its tiles; ``side`` is 1, 2 or 4. See Step.
__device__ inline int64_t point_offset(int32_t i, int32_t side, int64_t tile_stride,
                                       int64_t point_stride) {
  const int32_t from_tile = i + side / 2, log2_of_side = side / 2;
  return (from_tile >> log2_of_side) * tile_stride + (from_tile & (side - 1)) * point_stride;
}

// The channels of a point of a step.
template <typename T>
__device__ inline const T* point_at(const View& tiles, int64_t side, int64_t channels,
                                    const Pixel& point) {
  const int32_t s = static_cast<int32_t>(side);
  return at<T>(tiles, point.batch, 0, 0, 0) +
         point_offset(static_cast<int32_t>(point.y), s, tiles.y_stride, side * channels) +
         point_offset(static_cast<int32_t>(point.x), s, tiles.x_stride, channels);
}

}  // namespace
}  // namespace vfi
