// The smaller kernels of inference: what goes from pixel to pixel in channels-last tensors.
// Included by kernels_impl.h, after motion_impl.h.
#pragma once

namespace vfi {
namespace {

template <typename T>
inline void copy_channels(int64_t n, const T* from, T* to) {
  std::memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
}

// Blocks of ``count`` channels from ``c`` on; returns the first channel that is left.
template <int count, typename T>
inline int64_t activate_blocks(int64_t c, int64_t n, const T* in, const T* before, const T* after,
                               const float* slopes, T* out) {
  using Lanes = Vector<float, count>;
  for (; c + count <= n; c += count) {
    Lanes x = load_lanes<Lanes>(in + c);
    if (before) x += load_lanes<Lanes>(before + c);
    x = x > 0.0f ? x : x * load_lanes<Lanes>(slopes + c);
    if (after) x += load_lanes<Lanes>(after + c);
    store_lanes<Lanes>(out + c, x);
  }
  return c;
}

template <typename T>
inline void activate_channels(int64_t n, const T* in, const T* before, const T* after,
                              const float* slopes, T* out) {
  int64_t c = activate_blocks<16>(0, n, in, before, after, slopes, out);
  c = activate_blocks<8>(c, n, in, before, after, slopes, out);
  c = activate_blocks<4>(c, n, in, before, after, slopes, out);
  for (; c < n; ++c) {
    float x = load(in[c]);
    if (before) x += load(before[c]);
    x = x > 0.0f ? x : x * slopes[c];
    if (after) x += load(after[c]);
    store(out + c, x);
  }
}

// Whole periods of ``slopes`` out of ``n`` values, 16 at a time; returns how many values that was.
template <bool with_before, bool with_after, typename T>
inline int64_t activate_periods(int64_t n, int64_t period, const T* in, const T* before,
                                const T* after, const float* slopes, T* out) {
  using Lanes = Vector<float, 16>;
  int64_t i = 0;
  while (i < n && i + period <= n) {
    for (int64_t c = 0; c < period; c += 16, i += 16) {
      Lanes x = load_lanes<Lanes>(in + i);
      if (with_before) x += load_lanes<Lanes>(before + i);
      x = x > 0.0f ? x : x * load_lanes<Lanes>(slopes + c);
      if (with_after) x += load_lanes<Lanes>(after + i);
      store_lanes<Lanes>(out + i, x);
    }
  }
  return i;
}

template <typename T>
void activate_as(const Activation& p, int64_t begin, int64_t end) {
  const int64_t first = begin * p.channels, n = (end - begin) * p.channels;
  const T* in = static_cast<const T*>(p.in) + first;
  const T* before = p.before ? static_cast<const T*>(p.before) + first : nullptr;
  const T* after = p.after ? static_cast<const T*>(p.after) + first : nullptr;
  T* out = static_cast<T*>(p.out) + first;
  // The slopes of as many pixels as make whole vectors, so that no vector is cut at a pixel's end.
  float repeated[4096];
  int64_t period = p.channels;
  while (period % 16 != 0) period *= 2;
  const bool repeats = period != p.channels;
  int64_t i = 0;
  if (period <= 4096 || !repeats) {
    if (repeats) {
      for (int64_t c = 0; c < period; ++c) repeated[c] = p.slopes[c % p.channels];
    }
    const float* slopes = repeats ? repeated : p.slopes;
    if (before && after) {
      i = activate_periods<true, true>(n, period, in, before, after, slopes, out);
    } else if (before) {
      i = activate_periods<true, false>(n, period, in, before, after, slopes, out);
    } else if (after) {
      i = activate_periods<false, true>(n, period, in, before, after, slopes, out);
    } else {
      i = activate_periods<false, false>(n, period, in, before, after, slopes, out);
    }
  }
  for (; i < n; i += p.channels) {
    activate_channels(p.channels, in + i, before ? before + i : nullptr,
                      after ? after + i : nullptr, p.slopes, out + i);
  }
}

// Goes along a row of points that are kept in tiles, ``count`` values each.
template <typename T>
struct TileWalk {
  const T* here;
  int64_t point, side, count, next_tile;  // ``next_tile``: from one's last point to the next

  TileWalk(const T* tiles, int64_t column, int64_t side, int64_t count, int64_t stride)
      : here(tiles + column / side * stride + column % side * count), point(column % side),
        side(side), count(count), next_tile(stride - (side - 1) * count) {}

  void step() {
    const bool crosses = ++point == side;
    here += crosses ? next_tile : count;
    point = crosses ? 0 : point;
  }
};

template <typename T>
void untile_as(const Untile& p, int64_t begin, int64_t end) {
  const int64_t half = p.side / 2;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t batch = row / p.height, y = row % p.height;
    const int64_t within_y = (y + half) % p.side * p.side;
    const T* tiles = at<T>(p.tiles, batch, (y + half) / p.side, 0);
    T* out = const_cast<T*>(at<T>(p.out, batch, y, 0));
    TileWalk<T> walk(tiles + within_y * p.channels, half, p.side, p.channels, p.tiles.x_stride);
    for (int64_t x = 0; x < p.width; ++x, walk.step()) {
      T* to = out + x * p.out.x_stride;
      activate_channels(p.channels, walk.here, static_cast<const T*>(nullptr),
                        static_cast<const T*>(nullptr), p.slopes, to);
      if (p.skip_channels > 0) {
        copy_channels(p.skip_channels, at<T>(p.skip, batch, y, x), to + p.channels);
      }
    }
  }
}

// Three rows to four values a pixel, the last of them 0, 8 pixels at a time; returns how many
// pixels were done.
inline int64_t interleave_lanes(int64_t n, const float* r, const float* g, const float* b,
                                BFloat16* VFI_RESTRICT out) {
  using Lanes = Vector<float, 8>;
  using Quads = Vector<uint64_t, 8>;
  int64_t i = 0;
  for (; kLittleEndian && i + 8 <= n; i += 8) {
    const auto bits = [i](const float* row) {
      return __builtin_convertvector(to_bfloat16(load_lanes<Lanes>(row + i)), Quads);
    };
    const Quads pixels = bits(r) | (bits(g) << 16) | (bits(b) << 32);
    std::memcpy(out + 4 * i, &pixels, sizeof pixels);
  }
  return i;
}
inline int64_t interleave_lanes(int64_t, const float*, const float*, const float*, float*) {
  return 0;
}

// The same for all of a run, whose columns may lie apart.
template <typename T>
inline void interleave_picture(int64_t n, const float* row, int64_t channel_stride,
                               int64_t stride, T* VFI_RESTRICT out) {
  const float *g = row + channel_stride, *b = g + channel_stride;
  int64_t i = stride == 1 ? interleave_lanes(n, row, g, b, out) : 0;
  for (; i < n; ++i) {
    store(out + 4 * i, row[i * stride]);
    store(out + 4 * i + 1, g[i * stride]);
    store(out + 4 * i + 2, b[i * stride]);
    store(out + 4 * i + 3, 0.0f);
  }
}

template <int64_t fixed, typename T>
inline void join_features(const Pack& p, int64_t batch, int64_t y, int64_t x, int64_t n,
                          const T* picture, T* to) {
  const int64_t count = fixed > 0 ? fixed : p.features.channels, half = p.side / 2;
  const T* tiles = at<T>(p.features.tiles, batch, (y + half) / p.side, 0) +
                   (y + half) % p.side * p.side * count;
  TileWalk<T> walk(tiles, x + half, p.side, count, p.features.tiles.x_stride);
  for (int64_t i = 0; i < n; ++i, to += p.channels, walk.step()) {
    copy_channels(4, picture + 4 * i, to);  // the fourth is the first feature's place, or padding
    copy_channels(count, walk.here, to + 3);
    for (int64_t c = 3 + count; c < p.channels; ++c) store(to + c, 0.0f);
  }
}

template <typename T>
void pack_as(const Pack& p, int64_t begin, int64_t end) {
  T picture[4 * kTile];
  for (int64_t row = begin; row < end; ++row) {
    const int64_t batch = row / p.height, y = row % p.height;
    for (int64_t x = 0; x < p.width; x += kTile) {
      const int64_t n = p.width - x < kTile ? p.width - x : kTile;
      const float* from = at<float>(p.picture, batch, y, x);
      T* to = const_cast<T*>(at<T>(p.out, batch, y, x));
      const bool direct = p.channels == 4 && p.features.channels == 0;
      interleave_picture(n, from, p.picture.channel_stride, p.picture.x_stride,
                         direct ? to : picture);
      if (direct) continue;
      switch (p.features.channels) {
        case 4: join_features<4>(p, batch, y, x, n, picture, to); break;
        case 8: join_features<8>(p, batch, y, x, n, picture, to); break;
        case 16: join_features<16>(p, batch, y, x, n, picture, to); break;
        default: join_features<0>(p, batch, y, x, n, picture, to); break;
      }
    }
  }
}

template <typename T>
void warp_concat_as(const WarpConcat& p, int64_t begin, int64_t end) {
  Places places;
  float columns[kTile];
  for (int64_t row = begin; row < end; ++row) {
    const int64_t batch = row / p.height, y = row % p.height;
    for (int64_t x = 0; x < p.width; x += kTile) {
      const int64_t n = p.width - x < kTile ? p.width - x : kTile;
      T* out = const_cast<T*>(at<T>(p.out, batch, y, x));
      for (int64_t i = 0; i < n; ++i) {
        columns[i] = static_cast<float>(x + i);
        copy_channels(p.first_channels, at<T>(p.first, batch, y, x + i),
                      out + i * p.out.x_stride);
      }
      for (int64_t side = 0; side < 2; ++side) {
        const View& view = side == 0 ? p.features0 : p.features1;
        const float* u = at<float>(p.flow, batch, y, x) + 2 * side * p.flow.channel_stride;
        prefetch_ahead<T>(view, p.height, batch, y, x, n, 0, p.channels);
        find_places(n, columns, static_cast<float>(y), u, u + p.flow.channel_stride, p.height,
                    p.width, view, places);
        sample_side(p.channels, n, 1, at<T>(view, batch, 0, 0), view, &places,
                    out + p.first_channels + side * p.channels, p.out.x_stride);
      }
    }
  }
}

// The rows of reduced flow: the mean over the lattice of the reduction.
template <typename T>
class ReducedFlowRows {
 public:
  static int64_t scratch(const ReducedFlow& p) {
    return FlowRows<T>::scratch(p.motion) + 16 * (p.motion.width / p.scale);
  }

  ReducedFlowRows(const ReducedFlow& p, float* memory)
      : p_(p), per_(p.scale == 1 ? 1 : 2), flow_rows_(p.motion, p.scale, false, memory),
        flow_(memory + FlowRows<T>::scratch(p.motion)) {}

  void write(int64_t batch, int64_t y) {
    const int64_t columns = flow_rows_.columns(), width = p_.motion.width / p_.scale;
    for (int64_t q = 0; q < per_; ++q) {
      flow_rows_.read(batch, per_ * y + q, flow_ + q * 4 * columns);
    }
    const float gain = 1.0f / static_cast<float>(p_.scale * per_ * per_);
    for (int64_t c = 0; c < 4; ++c) {
      const float* from = flow_ + c * columns;
      float* to = const_cast<float*>(at<float>(p_.out, batch, y, 0)) + c * p_.out.channel_stride;
      for (int64_t x = 0; x < width; ++x) {
        float sum = from[per_ * x];
        if (per_ == 2) {
          sum += from[2 * x + 1] + from[4 * columns + 2 * x] + from[4 * columns + 2 * x + 1];
        }
        to[x] = sum * gain;
      }
    }
  }

 private:
  const ReducedFlow& p_;
  int64_t per_;
  FlowRows<T> flow_rows_;
  float* flow_;
};

// -------------------------------------------------------------------------- dispatch

int64_t reduced_flow_scratch(const ReducedFlow& p) { return ReducedFlowRows<float>::scratch(p); }

void reduced_flow(DType dtype, const ReducedFlow& p, int64_t begin, int64_t end, float* memory) {
  write_rows<ReducedFlowRows>(dtype, p, p.motion.height / p.scale, begin, end, memory);
}

int64_t fade_scratch(const Fade& p) {
  return Enlarger<float>::scratch(p.share, p.share.steps[0], 1) + p.share.width;
}

void fade(const Fade& p, int64_t begin, int64_t end, float* memory) {
  const Motion& share = p.share;
  Enlarger<float> rows(share, 0, 1, 0, 1, lattice_shares(share.steps[0].scale, 1),
                       memory);
  float* shares = memory + Enlarger<float>::scratch(share, share.steps[0], 1);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t batch = row / share.height, y = row % share.height;
    rows.add(batch, grid_place(static_cast<float>(y) + 0.5f, share.steps[0].scale), 0, 1, 1.0f,
             true, shares);
    const float* time = at<float>(p.time, batch, y, 0);
    for (int64_t c = 0; c < 3; ++c) {
      const float* a = at<float>(p.frame0, batch, y, 0) + c * p.frame0.channel_stride;
      const float* b = at<float>(p.frame1, batch, y, 0) + c * p.frame1.channel_stride;
      float* VFI_RESTRICT made =
          const_cast<float*>(at<float>(p.made, batch, y, 0)) + c * p.made.channel_stride;
      if (p.time.x_stride == 0) {
        const float t = time[0];
        for (int64_t x = 0; x < share.width; ++x) {
          made[x] += shares[x] * (a[x] + t * (b[x] - a[x]) - made[x]);
        }
      } else {
        for (int64_t x = 0; x < share.width; ++x) {
          made[x] += shares[x] * (a[x] + time[x] * (b[x] - a[x]) - made[x]);
        }
      }
    }
  }
}

void pack(DType dtype, const Pack& p, int64_t begin, int64_t end) {
  if (dtype == DType::bfloat16) return pack_as<BFloat16>(p, begin, end);
  pack_as<float>(p, begin, end);
}

void activate(DType dtype, const Activation& p, int64_t begin, int64_t end) {
  if (dtype == DType::bfloat16) return activate_as<BFloat16>(p, begin, end);
  activate_as<float>(p, begin, end);
}

void untile(DType dtype, const Untile& p, int64_t begin, int64_t end) {
  if (dtype == DType::bfloat16) return untile_as<BFloat16>(p, begin, end);
  untile_as<float>(p, begin, end);
}

void warp_concat(DType dtype, const WarpConcat& p, int64_t begin, int64_t end) {
  if (dtype == DType::bfloat16) return warp_concat_as<BFloat16>(p, begin, end);
  warp_concat_as<float>(p, begin, end);
}

}  // namespace
}  // namespace vfi
