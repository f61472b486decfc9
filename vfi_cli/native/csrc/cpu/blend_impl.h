// The new frame: both frames warped and blended by all of the motion. Included by kernels_impl.h,
// after motion_impl.h.
#pragma once

namespace vfi {
namespace {

// e to the power x to 2e-7, for x that is no NaN; vectorised where a call of expf is not.
inline float exp_of(float x) {
  x = x > -87.0f ? x : -87.0f;
  x = x < 87.0f ? x : 87.0f;
  const float scaled = x * 1.44269504f;
  const int32_t whole = static_cast<int32_t>(scaled + (scaled < 0.0f ? -0.5f : 0.5f));
  const float n = static_cast<float>(whole);
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float y = 1.9875691500e-4f;
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.0f;
  const int32_t bits = (whole + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return y * power;
}

inline float sigmoid_of(float x) { return 1.0f / (1.0f + exp_of(-x)); }

template <typename T>
class BlendRows {
  using Lanes = Vector<float, 4>;

 public:
  static int64_t scratch(const FrameBlend& p) {
    return FlowRows<T>::scratch(p.motion) + 9 * p.motion.width;
  }

  BlendRows(const FrameBlend& p, float* memory)
      : p_(p), flow_rows_(p.motion, 1, true, memory) {
    const int64_t width = p.motion.width;
    flow_ = memory + FlowRows<T>::scratch(p.motion);
    columns_ = flow_ + 5 * width;
    apart_ = columns_ + width;
    above_ = apart_ + width;
    missed_ = above_ + width;
    for (int64_t i = 0; i < width; ++i) columns_[i] = static_cast<float>(i);
  }

  // The rows of one cell's height.
  void write(int64_t batch, int64_t cell_row) {
    const int64_t first = cell_row * kCell;
    const int64_t last = first + kCell < p_.motion.height ? first + kCell : p_.motion.height;
    for (int64_t y = first; y < last; ++y) write_row(batch, y);
  }

 private:
  void write_row(int64_t batch, int64_t y) {
    const int64_t width = p_.motion.width, height = p_.motion.height;
    flow_rows_.read(batch, y, flow_);
    Places places[2];
    float share[kTile];
    const View views[2] = {p_.frame0, p_.frame1};
    const float* frames[2] = {at<float>(views[0], batch, 0, 0), at<float>(views[1], batch, 0, 0)};
    float* out = const_cast<float*>(at<float>(p_.out, batch, y, 0));
    for (int64_t x = 0; x < width; x += kTile) {
      const int64_t n = width - x < kTile ? width - x : kTile;
      const float* mask = flow_ + 4 * width + x;
      for (int64_t i = 0; i < n; ++i) share[i] = sigmoid_of(mask[i]);
      for (int64_t side = 0; side < 2; ++side) {
        const float* u = flow_ + 2 * side * width + x;
        prefetch_ahead<float>(views[side], height, batch, y, x, n, 0, 4);
        find_places(n, columns_ + x, static_cast<float>(y), u, u + width, height, width,
                    views[side], places[side]);
      }
      float* to = out + x;
      float made[4 * kTile], apart[4 * kTile];
      for (int64_t i = 0; i < n; ++i) {
        const Lanes a = sample<Lanes>(frames[0], views[0].x_stride, views[0].y_stride, places[0], i);
        const Lanes b = sample<Lanes>(frames[1], views[1].x_stride, views[1].y_stride, places[1], i);
        store_lanes<Lanes>(apart + 4 * i, a - b);
        store_lanes<Lanes>(made + 4 * i, b + (a - b) * share[i]);
      }
      const int64_t plane = p_.out.channel_stride;
      for (int64_t i = 0; i < n; ++i) {
        to[i] = made[4 * i];
        to[plane + i] = made[4 * i + 1];
        to[2 * plane + i] = made[4 * i + 2];
      }
      if (p_.cells.data) add_sizes(n, apart, missed_ + x);
      if (p_.residual.data) add_residual(batch, y, x, n, to);
    }
    if (p_.cells.data) add_to_cells(batch, y, frames, views);
  }

  void add_residual(int64_t batch, int64_t y, int64_t x, int64_t n, float* to) {
    const T* residual = at<T>(p_.residual, batch, y, x);
    for (int64_t c = 0; c < 3; ++c) {
      for (int64_t i = 0; i < n; ++i) {
        float& value = to[c * p_.out.channel_stride + i];
        const float made =
            value + 2.0f * sigmoid_of(load(residual[i * p_.residual.x_stride + c])) - 1.0f;
        value = made > 0.0f ? (made < 1.0f ? made : 1.0f) : 0.0f;
      }
    }
  }

  static float size_of(float x) { return x < 0.0f ? -x : x; }

  // The first three of every four values, by their size.
  static void add_sizes(int64_t n, const float* values, float* VFI_RESTRICT sums) {
    for (int64_t i = 0; i < n; ++i) {
      sums[i] = size_of(values[4 * i]) + size_of(values[4 * i + 1]) + size_of(values[4 * i + 2]);
    }
  }

  void add_to_cells(int64_t batch, int64_t y, const float* const* frames, const View* views) {
    const int64_t width = p_.motion.width, cells = width / kCell;
    float* mean = const_cast<float*>(at<float>(p_.cells, batch, y / kCell, 0));
    float* largest = mean + p_.cells.channel_stride;
    float* missed = largest + p_.cells.channel_stride;
    const float* a = frames[0] + y * views[0].y_stride;
    const float* b = frames[1] + y * views[1].y_stride;
    for (int64_t x = 0; x < width; x += kTile) {
      const int64_t n = width - x < kTile ? width - x : kTile;
      float apart[4 * kTile];
      for (int64_t i = 0; i < n; ++i) {
        store_lanes<Lanes>(apart + 4 * i, load_lanes<Lanes>(a + (x + i) * views[0].x_stride) -
                                              load_lanes<Lanes>(b + (x + i) * views[1].x_stride));
      }
      add_sizes(n, apart, apart_ + x);
    }
    // Squares of 2 by 2 pixels need the row above.
    const bool lower = y % 2 == 1, top = y % kCell == 0;
    constexpr float kMean = 1.0f / (3 * kCell * kCell), kSquare = 1.0f / (3 * 4);
    for (int64_t i = 0; i < cells; ++i) {
      float sum = 0.0f, missed_sum = 0.0f, most = y % kCell < 2 ? 0.0f : largest[i];
      for (int64_t j = i * kCell; j < (i + 1) * kCell; ++j) {
        sum += apart_[j];
        missed_sum += missed_[j];
      }
      if (lower) {
        for (int64_t j = i * kCell; j < (i + 1) * kCell; j += 2) {
          const float square =
              (above_[j] + above_[j + 1] + apart_[j] + apart_[j + 1]) * kSquare;
          most = square > most ? square : most;
        }
      }
      mean[i] = (top ? 0.0f : mean[i]) + sum * kMean;
      missed[i] = (top ? 0.0f : missed[i]) + missed_sum * kMean;
      largest[i] = most;
    }
    float* const swapped = above_;
    above_ = apart_;
    apart_ = swapped;
  }

  const FrameBlend& p_;
  FlowRows<T> flow_rows_;
  float* flow_;
  float* columns_;
  float* apart_;  // what the frames differ by, of this row and of the one above
  float* above_;
  float* missed_;
};

// -------------------------------------------------------------------------- dispatch

int64_t frame_blend_scratch(const FrameBlend& p) { return BlendRows<float>::scratch(p); }

void frame_blend(DType dtype, const FrameBlend& p, int64_t begin, int64_t end, float* memory) {
  write_rows<BlendRows>(dtype, p, (p.motion.height + kCell - 1) / kCell, begin, end, memory);
}

}  // namespace
}  // namespace vfi
