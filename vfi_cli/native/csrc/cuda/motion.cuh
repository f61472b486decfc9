// The kernels that read motion: what a block of a network sees, the new frame, and flow.
//
// Neither knows torch, nor how kernels are started: ``perform`` is given that. The tests do it in
// a loop on the CPU.
#pragma once

#include "../motion.h"
#include "lanes.cuh"

namespace vfi {
namespace {

// ``body`` with the type of values that networks compute in.
template <typename Body>
void for_values(DType dtype, Body body) {
  switch (dtype) {
    case DType::bfloat16: return body(Type<__nv_bfloat16>{});
    case DType::float16: return body(Type<__half>{});
    default: return body(Type<float>{});
  }
}

// The grid points on both sides of a place, along one axis.
struct Beside {
  int64_t first, second;  // where they are
  float share;            // of the second
};

__device__ inline Beside find_beside(float place, int64_t size, int64_t side, int64_t tile_stride,
                                     int64_t point_stride) {
  const float last = static_cast<float>(size - 1);
  place = place > 0.0f ? place : 0.0f;
  place = place < last ? place : last;
  const int32_t first = static_cast<int32_t>(place);
  const int32_t second = first + 1 < size ? first + 1 : first;
  const int32_t s = static_cast<int32_t>(side);
  return {point_offset(first, s, tile_stride, point_stride),
          point_offset(second, s, tile_stride, point_stride), place - static_cast<float>(first)};
}

// One channel of a step, enlarged: at a place of the frames, in pixels from their edges.
template <typename T>
__device__ inline float step_at(const Step& step, int64_t side, int64_t batch, int64_t channel,
                                float y, float x) {
  const View& tiles = step.tiles;
  const Beside rows = find_beside(grid_place(y, step.scale), step.height, side, tiles.y_stride,
                                  side * step.channels);
  const Beside columns = find_beside(grid_place(x, step.scale), step.width, side, tiles.x_stride,
                                     step.channels);
  const T* upper = at<T>(tiles, batch, 0, 0, 0) + channel + rows.first;
  const T* lower = upper + (rows.second - rows.first);
  const float rest = 1.0f - columns.share;
  const float above = load(upper[columns.first]) * rest + load(upper[columns.second]) * columns.share;
  const float below = load(lower[columns.first]) * rest + load(lower[columns.second]) * columns.share;
  return above * (1.0f - rows.share) + below * rows.share;
}

// One channel of all steps: 0 to 3 are flow in pixels of the frames, 4 is the mask, others are
// what the last step carries.
template <typename T>
__device__ inline float motion_at(const Motion& motion, int64_t batch, int64_t channel, float y,
                                  float x) {
  const bool summed = channel < 4 || (channel == 4 && motion.sum_masks);
  float sum = 0.0f;
  for (int64_t i = summed || motion.count == 0 ? 0 : motion.count - 1; i < motion.count; ++i) {
    const Step& step = motion.steps[i];
    const float gain = channel < 4 ? static_cast<float>(step.scale) : 1.0f;
    sum += gain * step_at<T>(step, motion.side, batch, channel, y, x);
  }
  return sum;
}

// --------------------------------------------------------------------- block inputs

constexpr int kInputPixels = 64;  // for which a block of threads works together
constexpr int kInputThreads = 128;

// A reduction reads 1 pixel, or 2 × 2 of its lattice.
__device__ inline int64_t lattice_of(int64_t scale) { return scale == 1 ? 1 : 2; }

__device__ inline Pixel lattice_pixel_of(const Pixel& pixel, int64_t q, int64_t scale) {
  const int64_t per = lattice_of(scale);
  return {pixel.batch, lattice_pixel(per * pixel.y + q / per, scale),
          lattice_pixel(per * pixel.x + q % per, scale)};
}

// Flow at the lattice of n pixels from number ``start`` on: channel c at lattice pixel q of pixel
// i goes to flow[(4q + c)·kInputPixels + i].
template <typename T>
__device__ inline void find_input_flow(const BlockInput& p, int64_t start, int64_t n, float* flow) {
  const int64_t width = p.motion.width / p.scale, height = p.motion.height / p.scale;
  const int32_t lattice = static_cast<int32_t>(lattice_of(p.scale) * lattice_of(p.scale));
  const int32_t count = static_cast<int32_t>(4 * lattice * n);
  for (int32_t task = threadIdx.x; task < count; task += blockDim.x) {
    const int32_t c = task % 4, q = task / 4 % lattice, i = task / 4 / lattice;
    Pixel pixel = pixel_of(start + i, p.rows, width);
    pixel.y += p.first_row;
    if (pixel.y < 0 || pixel.y >= height) continue;
    const Pixel there = lattice_pixel_of(pixel, q, p.scale);
    flow[(4 * q + c) * kInputPixels + i] =
        motion_at<T>(p.motion, there.batch, c, static_cast<float>(there.y) + 0.5f,
                     static_cast<float>(there.x) + 0.5f);
  }
}

// Both sides, where the flow points or, without flow, as they are; to the channels from ``to`` on.
template <typename T, int lanes>
__device__ inline void write_sides(const BlockInput& p, int64_t start, int64_t n,
                                   const float* flow, int64_t to) {
  const Motion& motion = p.motion;
  const int64_t width = motion.width / p.scale, height = motion.height / p.scale;
  const int32_t lattice = static_cast<int32_t>(lattice_of(p.scale) * lattice_of(p.scale));
  const int32_t runs = static_cast<int32_t>(p.side_channels / lanes);
  const int32_t count = static_cast<int32_t>(2 * runs * n);
  for (int32_t task = threadIdx.x; task < count; task += blockDim.x) {
    const int32_t i = task / (2 * runs), run = task % (2 * runs), side = run / runs;
    const View& view = side == 0 ? p.side0 : p.side1;
    Pixel pixel = pixel_of(start + i, p.rows, width);
    T* out = at<T>(p.out, pixel.batch, 0, pixel.y, pixel.x) + to + run * lanes;
    pixel.y += p.first_row;
    float sum[lanes] = {};
    if (pixel.y >= 0 && pixel.y < height) {
      const T* picture = at<T>(view, pixel.batch, 0, 0, 0) + run % runs * lanes;
      for (int32_t q = 0; q < lattice; ++q) {
        const Pixel there = lattice_pixel_of(pixel, q, p.scale);
        float x = static_cast<float>(there.x), y = static_cast<float>(there.y);
        if (flow != nullptr) {
          const float* u = flow + (4 * q + 2 * side) * kInputPixels + i;
          x += u[0];
          y += u[kInputPixels];
        }
        add_sample<lanes>(picture, view, find_place(x, y, motion.height, motion.width, view), sum);
      }
#pragma unroll
      for (int k = 0; k < lanes; ++k) sum[k] /= static_cast<float>(lattice);
    }
    store_lanes<lanes>(out, sum);
  }
}

// Channel c of what follows the sides; ``flow`` is that of the pixel's lattice.
template <typename T>
__device__ inline float told_at(const BlockInput& p, const Pixel& pixel, int32_t c,
                                const float* flow) {
  if (c < 4) {
    const int64_t lattice = lattice_of(p.scale) * lattice_of(p.scale);
    float sum = 0.0f;
    for (int64_t q = 0; q < lattice; ++q) sum += flow[(4 * q + c) * kInputPixels];
    return sum / static_cast<float>(lattice * p.scale);
  }
  if (c == 5) return *at<float>(p.time, pixel.batch, 0, pixel.y, pixel.x);
  if (c == 6 || c == 7 || c >= 8 + p.carried || p.motion.count == 0) return 0.0f;
  // The mask and what is carried are linear between the pixels of the lattice.
  const float scale = static_cast<float>(p.scale);
  return motion_at<T>(p.motion, pixel.batch, c == 4 ? 4 : c - 3,
                      (static_cast<float>(pixel.y) + 0.5f) * scale,
                      (static_cast<float>(pixel.x) + 0.5f) * scale);
}

template <typename T>
__device__ inline void write_told(const BlockInput& p, int64_t start, int64_t n,
                                  const float* flow, int64_t to) {
  const int64_t width = p.motion.width / p.scale, height = p.motion.height / p.scale;
  const int32_t channels = static_cast<int32_t>(8 + round_up(p.carried, 8));
  const int32_t count = static_cast<int32_t>(channels * n);
  for (int32_t task = threadIdx.x; task < count; task += blockDim.x) {
    const int32_t i = task / channels, c = task % channels;
    Pixel pixel = pixel_of(start + i, p.rows, width);
    T* out = at<T>(p.out, pixel.batch, 0, pixel.y, pixel.x) + to + c;
    pixel.y += p.first_row;
    const bool inside = pixel.y >= 0 && pixel.y < height;
    store(out, inside ? told_at<T>(p, pixel, c, flow + i) : 0.0f);
  }
}

template <typename T, int lanes>
__global__ void block_input_kernel(const BlockInput p) {
  __shared__ float flow[16 * kInputPixels];
  const int64_t count = p.motion.batch * p.rows * (p.motion.width / p.scale);
  for (int64_t start = static_cast<int64_t>(blockIdx.x) * kInputPixels; start < count;
       start += static_cast<int64_t>(gridDim.x) * kInputPixels) {
    const int64_t n = count - start < kInputPixels ? count - start : kInputPixels;
    find_input_flow<T>(p, start, n, flow);
    __syncthreads();
    const int64_t told = 2 * p.side_channels;
    write_sides<T, lanes>(p, start, n, flow, 0);
    write_told<T>(p, start, n, flow, told);
    if (p.unwarped) {
      write_sides<T, lanes>(p, start, n, nullptr, told + 8 + round_up(p.carried, 8));
    }
    __syncthreads();
  }
}

template <typename Launch>
void perform(const Launch& launch, DType dtype, const BlockInput& p) {
  const int64_t count = p.motion.batch * p.rows * (p.motion.width / p.scale);
  for_values(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    for_lanes<T>({p.side_channels}, {p.side0, p.side1, p.out}, [&](auto lanes) {
      launch.blocks((count + kInputPixels - 1) / kInputPixels, kInputThreads,
                    block_input_kernel<T, decltype(lanes)::value>, p);
    });
  });
}

// -------------------------------------------------------------------- the new frame

// A block of threads makes a tile of the frame: the pixels of some cells in a row.
constexpr int kTileCells = 4;
constexpr int kTileWidth = kTileCells * kCell;
constexpr int kTilePixels = kTileWidth * kCell;
constexpr int kPairs = kCell / 2;  // of rows in a cell

// What is known of a tile: of its pixels, and of pairs of rows of its cells.
struct BlendTile {
  float motion[5][kTilePixels];
  float apart[kTilePixels], missed[kTilePixels];  // sums over the channels
  float pair_apart[kTileCells * kPairs], pair_missed[kTileCells * kPairs];
  float pair_most[kTileCells * kPairs];
};

__device__ inline float size_of(float x) { return x < 0.0f ? -x : x; }

__device__ inline float sigmoid_of(float x) { return 1.0f / (1.0f + ::expf(-x)); }

template <typename T>
__device__ inline void find_tile_motion(const Motion& motion, const Pixel& corner,
                                        BlendTile& tile) {
  for (int32_t task = threadIdx.x; task < 5 * kTilePixels; task += blockDim.x) {
    const int32_t i = task / 5, c = task % 5;
    const int64_t y = corner.y + i / kTileWidth, x = corner.x + i % kTileWidth;
    if (y >= motion.height || x >= motion.width) continue;
    tile.motion[c][i] = motion_at<T>(motion, corner.batch, c, static_cast<float>(y) + 0.5f,
                                     static_cast<float>(x) + 0.5f);
  }
}

// Three of the four channels of a frame at a place.
template <int lanes>
__device__ inline void sample_frame(const View& frame, int64_t batch, const Place& place,
                                    float* to) {
  const float* data = at<float>(frame, batch, 0, 0, 0);
#pragma unroll
  for (int c = 0; c < 4; ++c) to[c] = 0.0f;
#pragma unroll
  for (int c = 0; c < 4; c += lanes) add_sample<lanes>(data + c, frame, place, to + c);
}

template <typename T, int lanes>
__device__ inline void blend_tile(const FrameBlend& p, const Pixel& corner, BlendTile& tile) {
  const int64_t height = p.motion.height, width = p.motion.width;
  for (int32_t i = threadIdx.x; i < kTilePixels; i += blockDim.x) {
    const int64_t y = corner.y + i / kTileWidth, x = corner.x + i % kTileWidth;
    if (y >= height || x >= width) continue;
    const float column = static_cast<float>(x), row = static_cast<float>(y);
    float a[4], b[4];
    sample_frame<lanes>(p.frame0, corner.batch,
                        find_place(column + tile.motion[0][i], row + tile.motion[1][i], height,
                                   width, p.frame0),
                        a);
    sample_frame<lanes>(p.frame1, corner.batch,
                        find_place(column + tile.motion[2][i], row + tile.motion[3][i], height,
                                   width, p.frame1),
                        b);
    const float share = sigmoid_of(tile.motion[4][i]);
    float missed = 0.0f, apart = 0.0f;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      float made = b[c] + (a[c] - b[c]) * share;
      if (p.residual.data != nullptr) {
        const float more = load(*at<T>(p.residual, corner.batch, c, y, x));
        made += 2.0f * sigmoid_of(more) - 1.0f;
        made = made > 0.0f ? (made < 1.0f ? made : 1.0f) : 0.0f;
      }
      *at<float>(p.out, corner.batch, c, y, x) = made;
      if (p.cells.data != nullptr) {
        missed += size_of(a[c] - b[c]);
        apart += size_of(*at<float>(p.frame0, corner.batch, c, y, x) -
                         *at<float>(p.frame1, corner.batch, c, y, x));
      }
    }
    tile.missed[i] = missed;
    tile.apart[i] = apart;
  }
}

// Two rows of each cell: the sums over them, and the most that the frames differ over 2 × 2.
__device__ inline void sum_pairs(BlendTile& tile) {
  for (int32_t task = threadIdx.x; task < kTileCells * kPairs; task += blockDim.x) {
    const int32_t cell = task / kPairs, pair = task % kPairs;
    const int32_t upper = 2 * pair * kTileWidth + cell * kCell;
    float apart = 0.0f, missed = 0.0f, most = 0.0f;
    for (int32_t i = upper; i < upper + kCell; i += 2) {
      const int32_t lower = i + kTileWidth;
      const float square =
          tile.apart[i] + tile.apart[i + 1] + tile.apart[lower] + tile.apart[lower + 1];
      apart += square;
      most = square > most ? square : most;
      missed += tile.missed[i] + tile.missed[i + 1] + tile.missed[lower] + tile.missed[lower + 1];
    }
    tile.pair_apart[task] = apart;
    tile.pair_missed[task] = missed;
    tile.pair_most[task] = most;
  }
}

__device__ inline void write_cells(const FrameBlend& p, const Pixel& corner,
                                   const BlendTile& tile) {
  for (int32_t cell = threadIdx.x; cell < kTileCells; cell += blockDim.x) {
    if (corner.x + cell * kCell >= p.motion.width) continue;
    float apart = 0.0f, missed = 0.0f, most = 0.0f;
    for (int32_t pair = cell * kPairs; pair < (cell + 1) * kPairs; ++pair) {
      apart += tile.pair_apart[pair];
      missed += tile.pair_missed[pair];
      most = tile.pair_most[pair] > most ? tile.pair_most[pair] : most;
    }
    constexpr float kMean = 1.0f / (3 * kCell * kCell), kSquare = 1.0f / (3 * 4);
    float* to = at<float>(p.cells, corner.batch, 0, corner.y / kCell, corner.x / kCell + cell);
    to[0] = apart * kMean;
    to[p.cells.channel_stride] = most * kSquare;
    to[2 * p.cells.channel_stride] = missed * kMean;
  }
}

template <typename T, int lanes>
__global__ void frame_blend_kernel(const FrameBlend p, int64_t tiles_down, int64_t tiles_across) {
  __shared__ BlendTile tile;
  const int64_t count = p.motion.batch * tiles_down * tiles_across;
  for (int64_t index = blockIdx.x; index < count; index += gridDim.x) {
    Pixel corner = pixel_of(index, tiles_down, tiles_across);
    corner.y *= kCell;
    corner.x *= kTileWidth;
    find_tile_motion<T>(p.motion, corner, tile);
    __syncthreads();
    blend_tile<T, lanes>(p, corner, tile);
    __syncthreads();
    if (p.cells.data != nullptr) {
      sum_pairs(tile);
      __syncthreads();
      write_cells(p, corner, tile);
    }
  }
}

template <typename Launch>
void perform(const Launch& launch, DType dtype, const FrameBlend& p) {
  const int64_t down = (p.motion.height + kCell - 1) / kCell;
  const int64_t across = (p.motion.width + kTileWidth - 1) / kTileWidth;
  for_values(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    for_lanes<float>({}, {p.frame0, p.frame1}, [&](auto lanes) {
      launch.blocks(p.motion.batch * down * across, kTilePixels,
                    frame_blend_kernel<T, decltype(lanes)::value>, p, down, across);
    });
  });
}

// ----------------------------------------------------------------------------- flow

// One thread for each value.
template <typename T>
__global__ void reduced_flow_kernel(const ReducedFlow p) {
  const int64_t height = p.motion.height / p.scale, width = p.motion.width / p.scale;
  const int64_t count = p.motion.batch * 4 * height * width;
  const int64_t lattice = lattice_of(p.scale) * lattice_of(p.scale);
  for (int64_t index = first_index(); index < count; index += index_step()) {
    Pixel pixel = pixel_of(index, height, width);
    const int64_t channel = pixel.batch % 4;
    pixel.batch /= 4;
    float sum = 0.0f;
    for (int64_t q = 0; q < lattice; ++q) {
      const Pixel there = lattice_pixel_of(pixel, q, p.scale);
      sum += motion_at<T>(p.motion, there.batch, channel, static_cast<float>(there.y) + 0.5f,
                          static_cast<float>(there.x) + 0.5f);
    }
    *at<float>(p.out, pixel.batch, channel, pixel.y, pixel.x) =
        sum / static_cast<float>(lattice * p.scale);
  }
}

template <typename Launch>
void perform(const Launch& launch, DType dtype, const ReducedFlow& p) {
  const int64_t pixels = p.motion.batch * (p.motion.height / p.scale) * (p.motion.width / p.scale);
  for_values(dtype, [&](auto type) {
    launch(4 * pixels, reduced_flow_kernel<typename decltype(type)::type>, p);
  });
}

// One thread for each pixel.
__global__ void fade_kernel(const Fade p) {
  const int64_t height = p.share.height, width = p.share.width;
  const int64_t count = p.share.batch * height * width;
  for (int64_t index = first_index(); index < count; index += index_step()) {
    const Pixel pixel = pixel_of(index, height, width);
    const float share =
        step_at<float>(p.share.steps[0], p.share.side, pixel.batch, 0,
                       static_cast<float>(pixel.y) + 0.5f, static_cast<float>(pixel.x) + 0.5f);
    const float time = *at<float>(p.time, pixel.batch, 0, pixel.y, pixel.x);
    for (int64_t c = 0; c < 3; ++c) {
      const float a = *at<float>(p.frame0, pixel.batch, c, pixel.y, pixel.x);
      const float b = *at<float>(p.frame1, pixel.batch, c, pixel.y, pixel.x);
      float* made = at<float>(p.made, pixel.batch, c, pixel.y, pixel.x);
      *made += share * (a + time * (b - a) - *made);
    }
  }
}

template <typename Launch>
void perform(const Launch& launch, const Fade& p) {
  launch(p.share.batch * p.share.height * p.share.width, fade_kernel, p);
}

}  // namespace
}  // namespace vfi
