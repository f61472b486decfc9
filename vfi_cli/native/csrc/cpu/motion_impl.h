// The fused kernels of inference, for values of float32 or bfloat16. Included by kernels_impl.h.
#pragma once

#include "flow_rows_impl.h"

namespace vfi {
namespace {

// ------------------------------------------------------------------------- sampling

// Where the pixels of a run look into a picture with its edges repeated, and the weights there.
struct Places {
  int32_t base[kTile];
  float w00[kTile], w01[kTile], w10[kTile], w11[kTile];
};

// ``columns``: the pixels' own x. The comparisons are written so that NaN goes to 0.
inline void find_places(int64_t n, const float* columns, float row, const float* u, const float* v,
                        int64_t height, int64_t width, const View& picture,
                        Places& places) {
  const float right = static_cast<float>(width - 1), bottom = static_cast<float>(height - 1);
  const int32_t last_x = static_cast<int32_t>(width - 2);
  const int32_t last_y = static_cast<int32_t>(height - 2);
  const int32_t x_stride = static_cast<int32_t>(picture.x_stride);
  const int32_t y_stride = static_cast<int32_t>(picture.y_stride);
  for (int64_t i = 0; i < n; ++i) {
    float x = columns[i] + u[i], y = row + v[i];
    x = x > 0.0f ? x : 0.0f;
    y = y > 0.0f ? y : 0.0f;
    x = x < right ? x : right;
    y = y < bottom ? y : bottom;
    int32_t x0 = static_cast<int32_t>(x), y0 = static_cast<int32_t>(y);
    x0 = x0 < last_x ? x0 : last_x;
    y0 = y0 < last_y ? y0 : last_y;
    const float fx = x - static_cast<float>(x0), fy = y - static_cast<float>(y0);
    places.base[i] = y0 * y_stride + x0 * x_stride;
    places.w11[i] = fx * fy;
    places.w10[i] = fy - places.w11[i];
    places.w01[i] = fx - places.w11[i];
    places.w00[i] = 1.0f - fx - places.w10[i];
  }
}

template <typename Lanes, typename T>
VFI_ALWAYS_INLINE Lanes sample(const T* picture, int64_t dx, int64_t dy, const Places& places, int64_t i) {
  const T* top = picture + places.base[i];
  const T* bottom = top + dy;
  return load_lanes<Lanes>(top) * places.w00[i] + load_lanes<Lanes>(top + dx) * places.w01[i] +
         load_lanes<Lanes>(bottom) * places.w10[i] + load_lanes<Lanes>(bottom + dx) * places.w11[i];
}

// The mean over ``rows`` × ``per`` places of each of n pixels, ``channels`` of them in blocks.
template <int lanes, typename T>
inline void sample_mean(int64_t channels, int64_t n, int64_t per, const T* picture,
                        const View& view, const Places* places, T* out, int64_t out_stride) {
  using Lanes = Vector<float, lanes>;
  const int64_t dx = view.x_stride, dy = view.y_stride;
  for (int64_t i = 0; i < n; ++i, out += out_stride) {
    for (int64_t c = 0; c < channels; c += lanes) {
      if (per == 1) {
        store_lanes<Lanes>(out + c, sample<Lanes>(picture + c, dx, dy, places[0], i));
        continue;
      }
      const Lanes sum = sample<Lanes>(picture + c, dx, dy, places[0], 2 * i) +
                        sample<Lanes>(picture + c, dx, dy, places[0], 2 * i + 1) +
                        sample<Lanes>(picture + c, dx, dy, places[1], 2 * i) +
                        sample<Lanes>(picture + c, dx, dy, places[1], 2 * i + 1);
      store_lanes<Lanes>(out + c, sum * 0.25f);
    }
  }
}

template <typename T>
inline void sample_side(int64_t channels, int64_t n, int64_t per, const T* picture,
                        const View& view, const Places* places, T* out, int64_t out_stride) {
  if (channels % 8 == 0) {
    sample_mean<8>(channels, n, per, picture, view, places, out, out_stride);
  } else {
    sample_mean<4>(channels, n, per, picture, view, places, out, out_stride);
  }
}

// --------------------------------------------------------------------- block inputs

// Eight rows of n values to eight values that lie side by side for each of n pixels.
template <typename T>
inline void interleave(int64_t n, const float* rows, int64_t row_stride, T* out,
                       int64_t out_stride) {
  using Lanes = Vector<float, 8>;
  int64_t i = 0;
  for (; i + 8 <= n; i += 8, out += 8 * out_stride) {
    Lanes a[8], b[8];
    for (int k = 0; k < 8; ++k) a[k] = load_lanes<Lanes>(rows + k * row_stride + i);
    // A transposition: pairs of rows, then pairs of pairs, then halves.
    for (int k = 0; k < 8; k += 2) {
      b[k] = __builtin_shufflevector(a[k], a[k + 1], 0, 8, 1, 9, 4, 12, 5, 13);
      b[k + 1] = __builtin_shufflevector(a[k], a[k + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int k = 0; k < 8; k += 4) {
      a[k] = __builtin_shufflevector(b[k], b[k + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      a[k + 1] = __builtin_shufflevector(b[k], b[k + 2], 2, 3, 10, 11, 6, 7, 14, 15);
      a[k + 2] = __builtin_shufflevector(b[k + 1], b[k + 3], 0, 1, 8, 9, 4, 5, 12, 13);
      a[k + 3] = __builtin_shufflevector(b[k + 1], b[k + 3], 2, 3, 10, 11, 6, 7, 14, 15);
    }
    for (int k = 0; k < 4; ++k) {
      b[k] = __builtin_shufflevector(a[k], a[k + 4], 0, 1, 2, 3, 8, 9, 10, 11);
      b[k + 4] = __builtin_shufflevector(a[k], a[k + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    for (int k = 0; k < 8; ++k) store_lanes<Lanes>(out + k * out_stride, b[k]);
  }
  for (; i < n; ++i, out += out_stride) {
    for (int k = 0; k < 8; ++k) store(out + k, rows[k * row_stride + i]);
  }
}

template <typename T>
class BlockInputRows {
 public:
  static int64_t scratch(const BlockInput& p) {
    const int64_t width = p.motion.width / p.scale;
    const int64_t columns = p.scale == 1 ? width : 2 * width;
    int64_t total = FlowRows<T>::scratch(p.motion) + 9 * columns + rest_rows(p) * width;
    for (int64_t i = 0; i < p.motion.count; ++i) {
      total += Enlarger<T>::scratch(p.motion, p.motion.steps[i], 1 + p.carried);
    }
    return total;
  }

  BlockInputRows(const BlockInput& p, float* memory)
      : p_(p), width_(p.motion.width / p.scale), per_(p.scale == 1 ? 1 : 2),
        flow_rows_(p.motion, p.scale, false, memory) {
    memory += FlowRows<T>::scratch(p.motion);
    const int64_t columns = per_ * width_;
    flow_[0] = memory;
    flow_[1] = memory + 4 * columns;
    columns_ = memory + 8 * columns;
    rest_ = memory + 9 * columns;
    memory = rest_ + rest_rows(p) * width_;
    for (int64_t i = 0; i < rest_rows(p) * width_; ++i) rest_[i] = 0.0f;
    for (int64_t i = 0; i < columns; ++i) {
      columns_[i] = static_cast<float>(lattice_pixel(i, p.scale));
    }
    for (int64_t i = 0, end; i < p.motion.count; i = end) {
      end = end_of_grid(p.motion, i);
      const bool last = end == p.motion.count;
      if (!last && !p.motion.sum_masks) continue;
      masks_[grids_++] = Enlarger<T>(p.motion, i, end, 4, last ? 1 + p.carried : 1,
                                     centre_shares(p.motion.steps[i].scale / p.scale), memory);
      memory += Enlarger<T>::scratch(p.motion, p.motion.steps[i], 1 + p.carried);
    }
  }

  // Row ``index`` of the rows that are asked for; those outside of the picture are 0.
  void write(int64_t batch, int64_t index) {
    const int64_t y = p_.first_row + index;
    T* row = const_cast<T*>(at<T>(p_.out, batch, index, 0));
    if (y < 0 || y >= p_.motion.height / p_.scale) {
      std::memset(row, 0, static_cast<size_t>(width_ * p_.out_channels) * sizeof(T));
      return;
    }
    for (int64_t q = 0; q < per_; ++q) flow_rows_.read(batch, per_ * y + q, flow_[q]);
    read_rest(batch, y);
    const int64_t tile = kTile / per_, rest = 8 + round_up(p_.carried, 8);
    for (int64_t x = 0; x < width_; x += tile) {
      const int64_t n = width_ - x < tile ? width_ - x : tile;
      T* out = row + x * p_.out_channels;
      write_sides(batch, y, x, n, false, out);
      out += 2 * p_.side_channels;
      for (int64_t c = 0; c < rest; c += 8) {
        interleave(n, rest_ + c * width_ + x, width_, out + c, p_.out_channels);
      }
      if (p_.unwarped) write_sides(batch, y, x, n, true, out + rest);
    }
  }

 private:
  static int64_t rest_rows(const BlockInput& p) { return 8 + round_up(p.carried, 8); }

  // Rows of flow (4), mask, time, two of zeros, and what is carried, at the block's own size.
  void read_rest(int64_t batch, int64_t y) {
    const int64_t columns = per_ * width_;
    const float gain = 1.0f / static_cast<float>(p_.scale * per_ * per_);
    for (int64_t c = 0; c < 4; ++c) {
      const float* upper = flow_[0] + c * columns;
      const float* lower = flow_[1] + c * columns;
      float* VFI_RESTRICT to = rest_ + c * width_;
      if (per_ == 1) {
        for (int64_t i = 0; i < width_; ++i) to[i] = upper[i];
        continue;
      }
      for (int64_t i = 0; i < width_; ++i) {
        to[i] = (upper[2 * i] + upper[2 * i + 1] + lower[2 * i] + lower[2 * i + 1]) * gain;
      }
    }
    const float centre = (static_cast<float>(y) + 0.5f) * static_cast<float>(p_.scale);
    for (int64_t i = 0; i < grids_; ++i) {
      Enlarger<T>& grid = masks_[i];
      const float place = grid_place(centre, grid.scale());
      grid.add(batch, place, 0, 1, 1.0f, i == 0, rest_ + 4 * width_);
      if (i + 1 == grids_ && p_.carried > 0) {
        grid.add(batch, place, 1, 1 + p_.carried, 1.0f, true, rest_ + 8 * width_);
      }
    }
    const float* time = at<float>(p_.time, batch, y, 0);
    for (int64_t i = 0; i < width_; ++i) rest_[5 * width_ + i] = time[i * p_.time.x_stride];
  }

  void write_sides(int64_t batch, int64_t y, int64_t x, int64_t n, bool still, T* out) {
    Places places[2];
    const float zeros[kTile] = {};
    const int64_t columns = per_ * width_;
    for (int64_t side = 0; side < 2; ++side) {
      const View& view = side == 0 ? p_.side0 : p_.side1;
      // What lies still is read in order, which processors foresee; of what is reduced by more than
      // 4, too few rows and pixels are read.
      const int64_t asked = still || p_.scale > 4 ? 0 : p_.scale;
      for (int64_t q = 0; q < asked; ++q) {
        prefetch_ahead<T>(view, p_.motion.height, batch, p_.scale * y + q, p_.scale * x,
                          p_.scale * n, 0, p_.side_channels);
      }
      for (int64_t q = 0; q < per_; ++q) {
        const float* u = still ? zeros : flow_[q] + 2 * side * columns + per_ * x;
        const float* v = still ? zeros : u + columns;
        find_places(per_ * n, columns_ + per_ * x,
                    static_cast<float>(lattice_pixel(per_ * y + q, p_.scale)), u, v,
                    p_.motion.height, p_.motion.width, view, places[q]);
      }
      sample_side(p_.side_channels, n, per_, at<T>(view, batch, 0, 0), view, places,
                  out + side * p_.side_channels, p_.out_channels);
    }
  }

  const BlockInput& p_;
  int64_t width_, per_;
  FlowRows<T> flow_rows_;
  int64_t grids_ = 0;
  Enlarger<T> masks_[kMaxSteps];  // and what is carried, of the last
  float* flow_[2];  // the rows of flow_[1] follow those of flow_[0]
  float* columns_;
  float* rest_;
};

// ------------------------------------------------------------------------- dispatch

template <template <typename> class Rows, typename Problem>
inline void write_rows(DType dtype, const Problem& problem, int64_t rows, int64_t begin,
                       int64_t end, float* memory) {
  if (dtype == DType::bfloat16) {
    Rows<BFloat16> work(problem, memory);
    for (int64_t i = begin; i < end; ++i) work.write(i / rows, i % rows);
  } else {
    Rows<float> work(problem, memory);
    for (int64_t i = begin; i < end; ++i) work.write(i / rows, i % rows);
  }
}

int64_t block_input_scratch(const BlockInput& p) { return BlockInputRows<float>::scratch(p); }

void block_input(DType dtype, const BlockInput& p, int64_t begin, int64_t end, float* memory) {
  write_rows<BlockInputRows>(dtype, p, p.rows, begin, end, memory);
}

}  // namespace
}  // namespace vfi
