// Planes to pictures and back on CUDA devices: a thread for each pixel, or for each sample of
// chroma and the pixels of luma that belong to it.
#pragma once

#include "../planes.h"

namespace vfi {
namespace {

template <typename T>
__device__ inline float sample(const Plane& plane, int64_t y, int64_t x) {
  return static_cast<float>(static_cast<const T*>(plane.data)[y * plane.stride + x]);
}

template <typename T>
__device__ inline float chroma_at(const Plane& plane, const Spread& rows,
                                  int64_t x) {
  const float middle = sample<T>(plane, rows.middle, x);
  if (rows.share == 0.0f) return middle;
  return middle + rows.share * (sample<T>(plane, rows.next, x) - sample<T>(plane, rows.previous, x));
}

// R', G' and B' of a pixel, not limited.
template <typename T>
__device__ inline void nominal_at(const Coding& c, const Plane* planes, int64_t y, int64_t x,
                                  float* out) {
  float values[kMaxPlanes] = {sample<T>(planes[0], y, x) - c.offsets[0]};
  const Spread rows = spread_at(y, c.height, c.half_y, c.cosited_y);
  const Spread columns = spread_at(x, c.width, c.half_x, c.cosited_x);
  for (int64_t n = 1; n < c.planes; ++n) {
    float value = chroma_at<T>(planes[n], rows, columns.middle) - c.offsets[n];
    if (columns.share != 0.0f) {
      value += columns.share * (chroma_at<T>(planes[n], rows, columns.next) -
                                chroma_at<T>(planes[n], rows, columns.previous));
    }
    values[n] = value;
  }
  for (int64_t channel = 0; channel < 3; ++channel) {
    const float* weights = c.decode + channel * c.planes;
    out[channel] = weights[0] * values[0];
    for (int64_t n = 1; n < c.planes; ++n) out[channel] += weights[n] * values[n];
  }
}

template <typename T>
__global__ void decode_planes_kernel(DecodePlanes p) {
  const Coding& c = p.coding;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       i < p.height * p.width; i += step) {
    const int64_t y = i / p.width, x = i % p.width;
    float values[3];
    nominal_at<T>(c, p.planes, y < c.height ? y : c.height - 1, x < c.width ? x : c.width - 1,
                  values);
    for (int64_t channel = 0; channel < p.picture.channels; ++channel) {
      float value = values[channel];
      if (p.limit) value = value > 0.0f ? (value < 1.0f ? value : 1.0f) : 0.0f;
      p.picture.data[channel * p.picture.channel_stride + y * p.picture.row_stride + x] = value;
    }
  }
}

template <typename T>
__device__ inline void store_code(const Plane& plane, float peak, int64_t y, int64_t x,
                                  float value) {
  const float limited = value > 0.0f ? (value < peak ? value : peak) : 0.0f;
  static_cast<T*>(plane.data)[y * plane.stride + x] = static_cast<T>(rintf(limited));
}

// A pixel of the picture, with the excess where that is wanted.
template <typename T>
__device__ inline void picture_at(const EncodePlanes& p, int64_t y, int64_t x, float* out) {
  for (int64_t channel = 0; channel < 3; ++channel) {
    out[channel] =
        p.picture.data[channel * p.picture.channel_stride + y * p.picture.row_stride + x];
  }
  if (!p.excess) return;
  float left[3], right[3];
  nominal_at<T>(p.coding, p.left, y, x, left);
  nominal_at<T>(p.coding, p.right, y, x, right);
  for (int64_t channel = 0; channel < 3; ++channel) {
    const float a = left[channel], b = right[channel];
    const float above = (a < b ? a : b) - 1.0f, below = a > b ? a : b;
    out[channel] += (above > 0.0f ? above : 0.0f) + (below < 0.0f ? below : 0.0f);
  }
}

__device__ inline float code_at(const Coding& c, int64_t n, const float* picture) {
  const float* weights = c.encode + 3 * n;
  return weights[0] * picture[0] + weights[1] * picture[1] + weights[2] * picture[2] +
         c.offsets[n];
}

template <typename T>
__global__ void encode_planes_kernel(EncodePlanes p) {
  const Coding& c = p.coding;
  const int64_t columns = chroma_width(c), count = chroma_height(c) * columns;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; at < count;
       at += step) {
    const int64_t j = at / columns, i = at % columns;
    const Filter down(j, c.height, c.half_y, c.cosited_y);
    const Filter across(i, c.width, c.half_x, c.cosited_x);
    const int64_t top = c.half_y ? 2 * j : j, left = c.half_x ? 2 * i : i;
    float sums[kMaxPlanes] = {};
    for (int64_t dy = -2; dy <= 2; ++dy) {
      if (down.shares[dy + 2] == 0.0f) continue;
      for (int64_t dx = -2; dx <= 2; ++dx) {
        if (across.shares[dx + 2] == 0.0f) continue;
        float picture[3];
        picture_at<T>(p, top + dy, left + dx, picture);
        // The sample itself and its partners always have a share.
        if (dy >= 0 && dy < 1 + c.half_y && dx >= 0 && dx < 1 + c.half_x) {
          store_code<T>(p.planes[0], c.peak, top + dy, left + dx, code_at(c, 0, picture));
        }
        const float share = down.shares[dy + 2] * across.shares[dx + 2];
        for (int64_t n = 1; n < c.planes; ++n) sums[n] += share * code_at(c, n, picture);
      }
    }
    for (int64_t n = 1; n < c.planes; ++n) store_code<T>(p.planes[n], c.peak, j, i, sums[n]);
  }
}

template <typename Launch>
void perform(const Launch& launch, const DecodePlanes& p) {
  launch(p.height * p.width,
         p.coding.wide ? decode_planes_kernel<uint16_t> : decode_planes_kernel<uint8_t>, p);
}

template <typename Launch>
void perform(const Launch& launch, const EncodePlanes& p) {
  launch(chroma_height(p.coding) * chroma_width(p.coding),
         p.coding.wide ? encode_planes_kernel<uint16_t> : encode_planes_kernel<uint8_t>, p);
}

}  // namespace
}  // namespace vfi
