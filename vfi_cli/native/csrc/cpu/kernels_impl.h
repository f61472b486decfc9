// The bodies of the CPU kernels. Included once by each kernels_*.cpp, which names the set
// (VFI_KERNELS) and says for which instructions the compiler may write; hence no include of
// anything that has inline functions of its own, and everything in an unnamed namespace.
#pragma once

#include "kernels.h"
#include "numbers.h"

namespace vfi {
namespace {

#if defined(_MSC_VER)
#define VFI_RESTRICT __restrict
#else
#define VFI_RESTRICT __restrict__
#endif

#if defined(__GNUC__)
#define VFI_ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define VFI_ALWAYS_INLINE inline
#endif

constexpr int64_t kTile = 128;  // pixels whose neighbours are worked out together

template <typename T>
inline const T* at(const View& view, int64_t batch, int64_t y, int64_t x) {
  return static_cast<const T*>(view.data) + batch * view.batch_stride + y * view.y_stride +
         x * view.x_stride;
}

template <typename F, typename A>
inline void load_strided(const void* from, int64_t offset, int64_t stride, int64_t n,
                         A* VFI_RESTRICT to) {
  const F* p = static_cast<const F*>(from) + offset;
  if (stride == 1) {
    for (int64_t i = 0; i < n; ++i) to[i] = static_cast<A>(load(p[i]));
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = static_cast<A>(load(p[i * stride]));
  }
}

template <typename A>
inline void load_row(DType dtype, const void* from, int64_t offset, int64_t stride, int64_t n,
                     A* to) {
  switch (dtype) {
    case DType::float32: return load_strided<float>(from, offset, stride, n, to);
    case DType::bfloat16: return load_strided<BFloat16>(from, offset, stride, n, to);
    case DType::float16: return load_strided<Half>(from, offset, stride, n, to);
    case DType::float64: return load_strided<double>(from, offset, stride, n, to);
  }
}

// The neighbours of a run of pixels of one row, as arrays.
template <typename A>
struct Tile {
  int32_t x[kTile], y[kTile];
  A x0[kTile], x1[kTile], y0[kTile], y1[kTile];
};

template <typename A>
struct Slopes {
  A x0[kTile], x1[kTile], y0[kTile], y1[kTile];
};

template <typename A>
struct Axes {
  explicit Axes(const Sampler& s)
      : x(make_axis<A>(s.width, s)), y(make_axis<A>(s.height, s)) {}
  Axis<A> x, y;
};

template <bool gaussian, bool with_slopes, typename A>
inline void fill_tile(const Sampler& s, const Axes<A>& axes, int64_t batch, int64_t row,
                      int64_t column, int64_t n, Tile<A>& tile, Slopes<A>* slopes) {
  A u[kTile], v[kTile];
  const View& flow = s.flow;
  const int64_t offset =
      batch * flow.batch_stride + row * flow.y_stride + column * flow.x_stride;
  load_row(s.flow_dtype, flow.data, offset, flow.x_stride, n, u);
  load_row(s.flow_dtype, flow.data, offset + flow.channel_stride, flow.x_stride, n, v);
  const Axis<A> axis_x = axes.x, axis_y = axes.y;
  const int32_t first = static_cast<int32_t>(column);
  const A base_y = static_cast<A>(row);
  for (int32_t i = 0; i < static_cast<int32_t>(n); ++i) {
    const auto nx = neighbours_at<gaussian>(static_cast<A>(first + i) + u[i], axis_x);
    tile.x[i] = nx.first;
    tile.x0[i] = nx.weight0;
    tile.x1[i] = nx.weight1;
    if (with_slopes) {
      slopes->x0[i] = nx.slope0;
      slopes->x1[i] = nx.slope1;
    }
  }
  for (int32_t i = 0; i < static_cast<int32_t>(n); ++i) {
    const auto ny = neighbours_at<gaussian>(base_y + v[i], axis_y);
    tile.y[i] = ny.first;
    tile.y0[i] = ny.weight0;
    tile.y1[i] = ny.weight1;
    if (with_slopes) {
      slopes->y0[i] = ny.slope0;
      slopes->y1[i] = ny.slope1;
    }
  }
}

template <typename A>
inline void fill_tile(const Sampler& s, const Axes<A>& axes, int64_t batch, int64_t row,
                      int64_t column, int64_t n, Tile<A>& tile) {
  if (s.gaussian) {
    fill_tile<true, false, A>(s, axes, batch, row, column, n, tile, nullptr);
  } else {
    fill_tile<false, false, A>(s, axes, batch, row, column, n, tile, nullptr);
  }
}

// How far apart the two neighbours are: not at all along an axis of one pixel, where the second
// has no weight but is read.
inline int64_t step(int64_t size, int64_t stride) { return size > 1 ? stride : 0; }

// What a warp reads next is where the flow points, which no processor foresees: in motion most of
// the time went by waiting for lines of the picture. So each row asks for another that lies ahead,
// in order. The rows between are on their way when the flow points there, and small motion
// upwards finds what is still in the cache.
constexpr int64_t kRowsAhead = 16;

// Asks for the pixels [x, x + n) of channels [first, last), kRowsAhead below row y. Inlined by
// force: GCC takes a function that does nothing else for one without effect, and its calls away.
template <typename T>
VFI_ALWAYS_INLINE void prefetch_ahead(const View& image, int64_t height, int64_t batch, int64_t y,
                                      int64_t x, int64_t n, int64_t first, int64_t last) {
#if defined(__GNUC__)
  if (y + kRowsAhead >= height) return;
  const T* from = at<T>(image, batch, y + kRowsAhead, x);
  const bool interleaved = image.channel_stride == 1;
  const int64_t values = interleaved ? n * image.x_stride : n;
  const int64_t line = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t c = interleaved ? last - 1 : first; c < last; ++c) {
    const T* row = interleaved ? from : from + c * image.channel_stride;
    for (int64_t i = 0; i < values; i += line) __builtin_prefetch(row + i, 0, 2);
  }
#endif
}

// Values that lie side by side, two for each of ``kPairs`` pixels: one load brings both.
constexpr int kPairs = 8;

struct Pairs {
  Vector<float, kPairs> left, right;
};

template <typename T>
constexpr bool in_pairs = false;
template <>
constexpr bool in_pairs<float> = kLittleEndian;
template <>
constexpr bool in_pairs<BFloat16> = kLittleEndian;

template <typename Bits, typename T>
inline Vector<Bits, kPairs> pair_bits(const T* plane, const int64_t* base) {
  Bits bits[kPairs];
  for (int i = 0; i < kPairs; ++i) std::memcpy(bits + i, plane + base[i], sizeof(Bits));
  return Vector<Bits, kPairs>{bits[0], bits[1], bits[2], bits[3],
                              bits[4], bits[5], bits[6], bits[7]};
}

inline Pairs load_pairs(const float* plane, const int64_t* base) {
  using Lanes = Vector<float, kPairs>;
  using Words = Vector<uint32_t, kPairs>;
  const auto bits = pair_bits<uint64_t>(plane, base);
  return {(Lanes)__builtin_convertvector(bits, Words),
          (Lanes)__builtin_convertvector(bits >> 32, Words)};
}

inline Pairs load_pairs(const BFloat16* plane, const int64_t* base) {
  using Lanes = Vector<float, kPairs>;
  const auto bits = pair_bits<uint32_t>(plane, base);
  return {(Lanes)(bits << 16), (Lanes)(bits & 0xffff0000u)};
}

// ---------------------------------------------------------------------------- gather

// ``count`` channels of one pixel.
template <int count, typename T, typename A>
inline void mix(const T* top, const T* bottom, int64_t dx, A w00, A w01, A w10, A w11, T* out) {
  using Lanes = Vector<A, count>;
  const Lanes sum = load_lanes<Lanes>(top) * w00 + load_lanes<Lanes>(top + dx) * w01 +
                    load_lanes<Lanes>(bottom) * w10 + load_lanes<Lanes>(bottom + dx) * w11;
  store_lanes<Lanes>(out, sum);
}

// Channels that lie side by side, of the pixels [0, n). What is left of the channels after blocks
// of 16 is done as one block more that reads and writes beyond them: the caller sees to it that
// reading there is allowed, and that a pixel which is written later follows.
template <typename T, typename A>
inline void mix_channels(int64_t channels, int64_t n, const T* image, const int64_t* base,
                         int64_t dx, int64_t dy, const A* w00, const A* w01, const A* w10,
                         const A* w11, T* out) {
  const int64_t blocks = channels / 16 * 16, rest = channels - blocks;
  for (int64_t i = 0; i < n; ++i, out += channels) {
    const T* top = image + base[i];
    const T* bottom = top + dy;
    for (int64_t c = 0; c < blocks; c += 16) {
      mix<16>(top + c, bottom + c, dx, w00[i], w01[i], w10[i], w11[i], out + c);
    }
    top += blocks;
    bottom += blocks;
    if (rest > 8) {
      mix<16>(top, bottom, dx, w00[i], w01[i], w10[i], w11[i], out + blocks);
    } else if (rest > 4) {
      mix<8>(top, bottom, dx, w00[i], w01[i], w10[i], w11[i], out + blocks);
    } else if (rest > 0) {
      mix<4>(top, bottom, dx, w00[i], w01[i], w10[i], w11[i], out + blocks);
    }
  }
}

inline int64_t whole_blocks(int64_t channels) {
  const int64_t rest = channels % 16;
  return channels - rest + (rest > 8 ? 16 : rest > 4 ? 8 : rest > 0 ? 4 : 0);
}

// One channel of the pixels [0, n), whose neighbours lie side by side.
template <typename T, typename A>
inline void mix_row(int64_t n, const T* plane, const int64_t* base, int64_t dx, int64_t dy,
                    const A* w00, const A* w01, const A* w10, const A* w11, T* out) {
  int64_t i = 0;
  if constexpr (in_pairs<T>) {
    using Lanes = Vector<float, kPairs>;
    for (; dx == 1 && i + kPairs <= n; i += kPairs) {
      const Pairs top = load_pairs(plane, base + i), bottom = load_pairs(plane + dy, base + i);
      const Lanes sum = top.left * load_lanes<Lanes>(w00 + i) +
                        top.right * load_lanes<Lanes>(w01 + i) +
                        bottom.left * load_lanes<Lanes>(w10 + i) +
                        bottom.right * load_lanes<Lanes>(w11 + i);
      store_lanes<Lanes>(out + i, sum);
    }
  }
  for (; i < n; ++i) {
    const T* top = plane + base[i];
    const T* bottom = top + dy;
    store(out + i, load(top[0]) * w00[i] + load(top[dx]) * w01[i] + load(bottom[0]) * w10[i] +
                       load(bottom[dx]) * w11[i]);
  }
}

// The channels [first, last), which are all of them where they lie side by side.
template <typename T>
void gather_channels(const Sampler& s, const View& image, int64_t extent, const View& out,
                     int64_t begin, int64_t end, int64_t first, int64_t last) {
  using A = typename Compute<T>::type;
  const Axes<A> axes(s);
  const int64_t dx = step(s.width, image.x_stride), dy = step(s.height, image.y_stride);
  const bool interleaved = image.channel_stride == 1 && out.channel_stride == 1;
  const int64_t last_base = extent - dx - dy - whole_blocks(s.channels);
  Tile<A> tile;
  int64_t base[kTile];
  A w00[kTile], w01[kTile], w10[kTile], w11[kTile];
  for (int64_t row = begin; row < end; ++row) {
    const int64_t batch = row / s.height, y = row % s.height;
    const T* image_start = at<T>(image, batch, 0, 0);
    T* out_row = const_cast<T*>(at<T>(out, batch, y, 0));
    for (int64_t x = 0; x < s.width; x += kTile) {
      const int64_t n = s.width - x < kTile ? s.width - x : kTile;
      prefetch_ahead<T>(image, s.height, batch, y, x, n, first, last);
      fill_tile(s, axes, batch, y, x, n, tile);
      for (int64_t i = 0; i < n; ++i) {
        base[i] = tile.y[i] * image.y_stride + tile.x[i] * image.x_stride;
        w00[i] = tile.y0[i] * tile.x0[i];
        w01[i] = tile.y0[i] * tile.x1[i];
        w10[i] = tile.y1[i] * tile.x0[i];
        w11[i] = tile.y1[i] * tile.x1[i];
      }
      if (!interleaved) {
        for (int64_t c = first; c < last; ++c) {
          mix_row(n, image_start + c * image.channel_stride, base, dx, dy, w00, w01, w10, w11,
                  out_row + c * out.channel_stride + x);
        }
        continue;
      }
      // The row's last pixel must not write beyond itself, and the picture's last pixels have
      // nothing to be read behind them.
      int64_t whole = x + n < s.width ? n : n - 1;
      for (int64_t i = 0; i < whole; ++i) {
        if (base[i] > last_base) whole = i;
      }
      T* to = out_row + x * s.channels;
      mix_channels(s.channels, whole, image_start, base, dx, dy, w00, w01, w10, w11, to);
      for (int64_t i = whole; i < n; ++i) {
        const T* top = image_start + base[i];
        for (int64_t c = 0; c < s.channels; ++c) {
          store(to + i * s.channels + c,
                load(top[c]) * w00[i] + load(top[c + dx]) * w01[i] +
                    load(top[c + dy]) * w10[i] + load(top[c + dy + dx]) * w11[i]);
        }
      }
    }
  }
}

template <typename T>
void gather_as(const Sampler& s, const View& image, int64_t extent, const View& out,
               int64_t begin, int64_t end) {
  // Planes are taken few at a time: the rows of all that motion reaches would not stay in the
  // cache.
  const int64_t group = image.channel_stride == 1 ? s.channels : 6;
  for (int64_t first = 0; first < s.channels; first += group) {
    const int64_t last = first + group < s.channels ? first + group : s.channels;
    gather_channels<T>(s, image, extent, out, begin, end, first, last);
  }
}

// --------------------------------------------------------------------------- scatter

// Adds up ``count`` channels, each from its own row of ``values``: at a time, because neighbours
// are added to the same places, and each sum has to wait for the one before.
template <int count, typename A>
inline void scatter_run(int64_t n, const int64_t* base, int64_t dx, int64_t dy,
                        const Tile<A>& tile, const A (*values)[kTile], A* plane,
                        int64_t channel_stride) {
  for (int64_t i = 0; i < n; ++i) {
    // A weight of 0 stands for a neighbour outside: NaN times 0 must not get in.
    const bool above = tile.y0[i] != A(0), below = tile.y1[i] != A(0);
    const bool left = tile.x0[i] != A(0), right = tile.x1[i] != A(0);
    for (int c = 0; c < count; ++c) {
      A* top = plane + c * channel_stride + base[i];
      A* bottom = top + dy;
      const A upper = tile.y0[i] * values[c][i], lower = tile.y1[i] * values[c][i];
      if (above && left) top[0] += tile.x0[i] * upper;
      if (above && right) top[dx] += tile.x1[i] * upper;
      if (below && left) bottom[0] += tile.x0[i] * lower;
      if (below && right) bottom[dx] += tile.x1[i] * lower;
    }
  }
}

template <typename T>
void scatter_as(const Sampler& s, DType dtype, const View& values, const View& sums,
                const View& weights, int64_t batch, int64_t first, int64_t last) {
  using A = typename Compute<T>::type;
  constexpr int64_t kTogether = 4;
  const Axes<A> axes(s);
  Tile<A> tile;
  A value[kTogether][kTile];
  int64_t base[kTile];
  for (int64_t y = 0; y < s.height; ++y) {
    for (int64_t x = 0; x < s.width; x += kTile) {
      const int64_t n = s.width - x < kTile ? s.width - x : kTile;
      fill_tile(s, axes, batch, y, x, n, tile);
      for (int64_t c = first, count; c < last; c += count) {
        const bool counting = c == s.channels;
        const int64_t stop = last < s.channels ? last : s.channels;
        count = counting ? 1 : stop - c < kTogether ? stop - c : kTogether;
        const View& to = counting ? weights : sums;
        for (int64_t k = 0; k < count; ++k) {
          if (counting) {
            for (int64_t i = 0; i < n; ++i) value[k][i] = A(1);
          } else {
            load_row(dtype, values.data,
                     batch * values.batch_stride + (c + k) * values.channel_stride +
                         y * values.y_stride + x * values.x_stride,
                     values.x_stride, n, value[k]);
          }
        }
        for (int64_t i = 0; i < n; ++i) {
          base[i] = tile.y[i] * to.y_stride + tile.x[i] * to.x_stride;
        }
        A* plane = const_cast<A*>(at<A>(to, batch, 0, 0)) + (counting ? 0 : c) * to.channel_stride;
        const int64_t dx = step(s.width, to.x_stride), dy = step(s.height, to.y_stride);
        switch (count) {
          case 1: scatter_run<1>(n, base, dx, dy, tile, value, plane, to.channel_stride); break;
          case 2: scatter_run<2>(n, base, dx, dy, tile, value, plane, to.channel_stride); break;
          case 3: scatter_run<3>(n, base, dx, dy, tile, value, plane, to.channel_stride); break;
          default: scatter_run<4>(n, base, dx, dy, tile, value, plane, to.channel_stride);
        }
      }
    }
  }
}

// ------------------------------------------------------------------------ flow_slope

template <typename T, typename A>
inline void add_slopes(const T* image, int64_t dx, int64_t dy, int64_t n, const int64_t* base,
                       const A* value, const Tile<A>& tile, const Slopes<A>& slopes,
                       A* VFI_RESTRICT gx, A* VFI_RESTRICT gy) {
  int64_t i = 0;
  if constexpr (in_pairs<T>) {
    using Lanes = Vector<float, kPairs>;
    for (; dx == 1 && i + kPairs <= n; i += kPairs) {
      const Pairs top = load_pairs(image, base + i), bottom = load_pairs(image + dy, base + i);
      const auto lanes = [i](const A* values) { return load_lanes<Lanes>(values + i); };
      const Lanes along_x = lanes(tile.y0) * (lanes(slopes.x0) * top.left +
                                              lanes(slopes.x1) * top.right) +
                            lanes(tile.y1) * (lanes(slopes.x0) * bottom.left +
                                              lanes(slopes.x1) * bottom.right);
      const Lanes along_y = lanes(slopes.y0) * (lanes(tile.x0) * top.left +
                                                lanes(tile.x1) * top.right) +
                            lanes(slopes.y1) * (lanes(tile.x0) * bottom.left +
                                                lanes(tile.x1) * bottom.right);
      store_lanes<Lanes>(gx + i, lanes(gx) + lanes(value) * along_x);
      store_lanes<Lanes>(gy + i, lanes(gy) + lanes(value) * along_y);
    }
  }
  for (; i < n; ++i) {
    const T* top = image + base[i];
    const T* bottom = top + dy;
    const A v00 = load(top[0]), v01 = load(top[dx]);
    const A v10 = load(bottom[0]), v11 = load(bottom[dx]);
    gx[i] += value[i] * (tile.y0[i] * (slopes.x0[i] * v00 + slopes.x1[i] * v01) +
                         tile.y1[i] * (slopes.x0[i] * v10 + slopes.x1[i] * v11));
    gy[i] += value[i] * (slopes.y0[i] * (tile.x0[i] * v00 + tile.x1[i] * v01) +
                         slopes.y1[i] * (tile.x0[i] * v10 + tile.x1[i] * v11));
  }
}

template <typename T>
void flow_slope_as(const Sampler& s, DType dtype, const View& image, const View& plane,
                   const View& values, const View& slope, int64_t begin, int64_t end) {
  using A = typename Compute<T>::type;
  const Axes<A> axes(s);
  Tile<A> tile;
  Slopes<A> slopes;
  A value[kTile], gx[kTile], gy[kTile];
  int64_t base[kTile];
  for (int64_t row = begin; row < end; ++row) {
    const int64_t batch = row / s.height, y = row % s.height;
    for (int64_t x = 0; x < s.width; x += kTile) {
      const int64_t n = s.width - x < kTile ? s.width - x : kTile;
      prefetch_ahead<T>(image, s.height, batch, y, x, n, 0, s.channels);
      if (s.gaussian) {
        fill_tile<true, true, A>(s, axes, batch, y, x, n, tile, &slopes);
      } else {
        fill_tile<false, true, A>(s, axes, batch, y, x, n, tile, &slopes);
      }
      for (int64_t i = 0; i < n; ++i) {
        gx[i] = gy[i] = A(0);
        base[i] = tile.y[i] * image.y_stride + tile.x[i] * image.x_stride;
      }
      for (int64_t c = 0; c < s.channels; ++c) {
        load_row(dtype, values.data,
                 batch * values.batch_stride + c * values.channel_stride + y * values.y_stride +
                     x * values.x_stride,
                 values.x_stride, n, value);
        add_slopes(at<T>(image, batch, 0, 0) + c * image.channel_stride,
                   step(s.width, image.x_stride), step(s.height, image.y_stride), n, base, value,
                   tile, slopes, gx, gy);
      }
      if (plane.data) {
        for (int64_t i = 0; i < n; ++i) {
          value[i] = A(1);
          base[i] = tile.y[i] * plane.y_stride + tile.x[i] * plane.x_stride;
        }
        add_slopes(at<T>(plane, batch, 0, 0), step(s.width, plane.x_stride),
                   step(s.height, plane.y_stride), n, base, value, tile, slopes, gx, gy);
      }
      A* to = const_cast<A*>(at<A>(slope, batch, y, x));
      for (int64_t i = 0; i < n; ++i) {
        to[i * slope.x_stride] = gx[i];
        to[i * slope.x_stride + slope.channel_stride] = gy[i];
      }
    }
  }
}

}  // namespace
}  // namespace vfi

#include "correlation_impl.h"

namespace vfi {
namespace {

// -------------------------------------------------------------------------- dispatch

void gather(const Sampler& s, DType dtype, const View& image, int64_t extent, const View& out,
            int64_t begin, int64_t end) {
  switch (dtype) {
    case DType::float32: return gather_as<float>(s, image, extent, out, begin, end);
    case DType::bfloat16: return gather_as<BFloat16>(s, image, extent, out, begin, end);
    case DType::float16: return gather_as<Half>(s, image, extent, out, begin, end);
    case DType::float64: return gather_as<double>(s, image, extent, out, begin, end);
  }
}

void scatter(const Sampler& s, DType dtype, const View& values, const View& sums,
             const View& weights, int64_t batch, int64_t first, int64_t last) {
  if (dtype == DType::float64) {
    scatter_as<double>(s, dtype, values, sums, weights, batch, first, last);
  } else {
    scatter_as<float>(s, dtype, values, sums, weights, batch, first, last);
  }
}

void flow_slope(const Sampler& s, DType dtype, const View& image, const View& plane,
                const View& values, const View& slope, int64_t begin, int64_t end) {
  switch (dtype) {
    case DType::float32:
      return flow_slope_as<float>(s, dtype, image, plane, values, slope, begin, end);
    case DType::bfloat16:
      return flow_slope_as<BFloat16>(s, dtype, image, plane, values, slope, begin, end);
    case DType::float16:
      return flow_slope_as<Half>(s, dtype, image, plane, values, slope, begin, end);
    case DType::float64:
      return flow_slope_as<double>(s, dtype, image, plane, values, slope, begin, end);
  }
}

void correlate(const Correlation& p, DType dtype, const void* a, const void* b, void* out,
               int64_t begin, int64_t end) {
  if (dtype == DType::float64) {
    correlate_as(p, static_cast<const double*>(a), static_cast<const double*>(b),
                 static_cast<double*>(out), begin, end);
  } else {
    correlate_as(p, static_cast<const float*>(a), static_cast<const float*>(b),
                 static_cast<float*>(out), begin, end);
  }
}

void correlate_grad(const Correlation& p, DType dtype, bool second, const void* grad,
                    const void* other, void* out, int64_t begin, int64_t end) {
  if (dtype == DType::float64) {
    correlate_grad_as(p, second, static_cast<const double*>(grad),
                      static_cast<const double*>(other), static_cast<double*>(out), begin, end);
  } else {
    correlate_grad_as(p, second, static_cast<const float*>(grad),
                      static_cast<const float*>(other), static_cast<float*>(out), begin, end);
  }
}

}  // namespace
}  // namespace vfi

#include "motion_impl.h"
#include "blend_impl.h"
#include "pixels_impl.h"
#include "planes_impl.h"

namespace vfi {

extern const Kernels VFI_KERNELS;
const Kernels VFI_KERNELS = {
    VFI_KERNELS_NAME,    gather,      scatter,      flow_slope,
    correlate,           correlate_grad,
    block_input_scratch, block_input, frame_blend_scratch, frame_blend,
    reduced_flow_scratch, reduced_flow, fade_scratch, fade,
    pack,                activate,    untile,       warp_concat,
    decode_planes_scratch, decode_planes, encode_planes_scratch, encode_planes};

}  // namespace vfi
