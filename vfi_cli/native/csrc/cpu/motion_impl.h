// The fused kernels of inference, for values of float32 or bfloat16. Included by kernels_impl.h.
//
// All go through the rows of their result from top to bottom, so that what is enlarged along x is
// kept until the rows that lie between the same two grid rows are done.
#pragma once

namespace vfi {
namespace {

constexpr int64_t kMaxShares = 2 * kMaxScale;

// Bilinear shares of the grid points left of, at and right of each of the places that lie nearest
// to one grid point. ``spread``: places a grid point. Reductions by an even s ≥ 2 read the middle
// two pixels of each s (lattice), or are asked for at their own centres.
struct Shares {
  int64_t spread;
  float left[kMaxShares], middle[kMaxShares], right[kMaxShares];
};

inline void set_share(Shares& shares, int64_t j, float distance) {
  shares.left[j] = distance < 0 ? -distance : 0.0f;
  shares.right[j] = distance > 0 ? distance : 0.0f;
  shares.middle[j] = 1.0f - shares.left[j] - shares.right[j];
}

inline Shares lattice_shares(int64_t scale, int64_t reduction) {
  Shares shares;
  shares.spread = reduction == 1 ? scale : 2 * scale / reduction;
  for (int64_t j = 0; j < shares.spread; ++j) {
    const float pixel = static_cast<float>(lattice_pixel(j, reduction));
    set_share(shares, j, grid_place(pixel + 0.5f, scale));
  }
  return shares;
}

inline Shares centre_shares(int64_t spread) {
  Shares shares;
  shares.spread = spread;
  for (int64_t j = 0; j < spread; ++j) {
    set_share(shares, j, grid_place(static_cast<float>(j) + 0.5f, spread));
  }
  return shares;
}

template <int64_t fixed>
inline void enlarge_by(const Shares& shares, int64_t n, const float* row, float* VFI_RESTRICT out) {
  const int64_t spread = fixed > 0 ? fixed : shares.spread;
  for (int64_t i = 0; i < n; ++i) {
    const float before = row[i - 1], here = row[i], after = row[i + 1];
    for (int64_t j = 0; j < spread; ++j) {
      out[i * spread + j] =
          before * shares.left[j] + here * shares.middle[j] + after * shares.right[j];
    }
  }
}

inline void enlarge(const Shares& shares, int64_t n, const float* row, float* out) {
  switch (shares.spread) {
    case 1: return enlarge_by<1>(shares, n, row, out);
    case 2: return enlarge_by<2>(shares, n, row, out);
    case 4: return enlarge_by<4>(shares, n, row, out);
    case 8: return enlarge_by<8>(shares, n, row, out);
    case 16: return enlarge_by<16>(shares, n, row, out);
    default: return enlarge_by<0>(shares, n, row, out);
  }
}

// Some channels of a step, enlarged: the two grid rows that were needed last are kept.
template <typename T>
class Enlarger {
 public:
  static int64_t scratch(const Motion& motion, const Step& step, int64_t channels,
                         int64_t columns) {
    return step.width + 2 * motion.side + 2 * channels * columns;
  }

  Enlarger() = default;
  Enlarger(const Motion& motion, const Step& step, int64_t first, int64_t channels,
           const Shares& shares, float* memory)
      : step_(&step), side_(motion.side), first_(first), channels_(channels), shares_(shares),
        columns_(step.width * shares.spread) {
    row_ = memory + side_;
    kept_[0] = memory + step.width + 2 * side_;
    kept_[1] = kept_[0] + channels * columns_;
  }

  // out(channel, x) += gain · the channel at row ``place`` of the grid, for the channels
  // [from, to) of this enlarger; instead of adding, sets where ``set``.
  void add(int64_t batch, float place, int64_t from, int64_t to, float gain, bool set,
           float* VFI_RESTRICT out) {
    const float last = static_cast<float>(step_->height - 1);
    place = place > 0.0f ? place : 0.0f;
    place = place < last ? place : last;
    const int64_t above = static_cast<int64_t>(place);
    const int64_t below = above + 1 < step_->height ? above + 1 : above;
    const float share = (place - static_cast<float>(above)) * gain;
    const float* upper = kept(batch, above) + from * columns_;
    const float* lower = kept(batch, below) + from * columns_;
    const float rest = gain - share;
    const int64_t n = (to - from) * columns_;
    if (set) {
      for (int64_t i = 0; i < n; ++i) out[i] = upper[i] * rest + lower[i] * share;
    } else {
      for (int64_t i = 0; i < n; ++i) out[i] += upper[i] * rest + lower[i] * share;
    }
  }

 private:
  const float* kept(int64_t batch, int64_t y) {
    const int64_t slot = y & 1, name = batch * step_->height + y;
    if (name_[slot] != name) {
      name_[slot] = name;
      for (int64_t c = 0; c < channels_; ++c) {
        read(batch, y, first_ + c);
        enlarge(shares_, step_->width, row_, kept_[slot] + c * columns_);
      }
    }
    return kept_[slot];
  }

  // One channel of one grid row to row_[0 … width), with its ends repeated on both sides.
  void read(int64_t batch, int64_t y, int64_t channel) {
    const int64_t half = side_ / 2;
    const int64_t within = (y + half) % side_;
    const T* tiles = at<T>(step_->tiles, batch, (y + half) / side_, 0) +
                     within * side_ * step_->channels + channel;
    switch (side_) {
      case 4: read_tiles<4>(tiles); break;
      case 2: read_tiles<2>(tiles); break;
      default: read_tiles<1>(tiles); break;
    }
    row_[-1] = row_[0];
    row_[step_->width] = row_[step_->width - 1];
  }

  template <int64_t side>
  void read_tiles(const T* tile) {
    const int64_t n = step_->channels, stride = step_->tiles.x_stride;
    const int64_t count = (step_->width + side / 2 + side - 1) / side;
    float* VFI_RESTRICT to = row_ - side / 2;
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t j = 0; j < side; ++j) to[i * side + j] = load(tile[i * stride + j * n]);
    }
  }

  const Step* step_ = nullptr;
  int64_t side_ = 0, first_ = 0, channels_ = 0;
  Shares shares_;
  int64_t columns_ = 0;
  float* row_ = nullptr;
  float* kept_[2] = {};
  int64_t name_[2] = {-1, -1};
};

// The flow (and mask, at full size) at the pixels of a reduction's lattice.
template <typename T>
class FlowRows {
 public:
  static int64_t scratch(const Motion& motion, int64_t reduction) {
    int64_t total = 0;
    const int64_t columns = reduction == 1 ? motion.width : 2 * (motion.width / reduction);
    for (int64_t i = 0; i < motion.count; ++i) {
      total += Enlarger<T>::scratch(motion, motion.steps[i], 5, columns);
    }
    return total;
  }

  FlowRows(const Motion& motion, int64_t reduction, bool with_mask, float* memory)
      : motion_(motion), reduction_(reduction), with_mask_(with_mask),
        columns_(reduction == 1 ? motion.width : 2 * (motion.width / reduction)) {
    for (int64_t i = 0; i < motion.count; ++i) {
      const Step& step = motion.steps[i];
      steps_[i] = Enlarger<T>(motion, step, 0, masked(i) ? 5 : 4,
                              lattice_shares(step.scale, reduction), memory);
      memory += Enlarger<T>::scratch(motion, step, 5, columns_);
    }
  }

  int64_t columns() const { return columns_; }

  // Flow (4 channels) in pixels of the frames, and the mask where it is asked for, to ``out``
  // (channels, columns).
  void read(int64_t batch, int64_t lattice_row, float* out) {
    if (motion_.count == 0) {
      for (int64_t i = 0; i < (with_mask_ ? 5 : 4) * columns_; ++i) out[i] = 0.0f;
    }
    const float centre = static_cast<float>(lattice_pixel(lattice_row, reduction_)) + 0.5f;
    bool first_mask = true;
    for (int64_t i = 0; i < motion_.count; ++i) {
      const int64_t scale = motion_.steps[i].scale;
      const float place = grid_place(centre, scale);
      steps_[i].add(batch, place, 0, 4, static_cast<float>(scale), i == 0, out);
      if (masked(i)) {
        steps_[i].add(batch, place, 4, 5, 1.0f, first_mask, out + 4 * columns_);
        first_mask = false;
      }
    }
  }

 private:
  bool masked(int64_t i) const {
    return with_mask_ && (motion_.sum_masks || i == motion_.count - 1);
  }

  const Motion& motion_;
  int64_t reduction_;
  bool with_mask_;
  int64_t columns_;
  Enlarger<T> steps_[kMaxSteps];
};

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
    int64_t total = FlowRows<T>::scratch(p.motion, p.scale) + 9 * columns + rest_rows(p) * width;
    for (int64_t i = 0; i < p.motion.count; ++i) {
      total += Enlarger<T>::scratch(p.motion, p.motion.steps[i], 1 + p.carried, width);
    }
    return total;
  }

  BlockInputRows(const BlockInput& p, float* memory)
      : p_(p), width_(p.motion.width / p.scale), per_(p.scale == 1 ? 1 : 2),
        flow_rows_(p.motion, p.scale, false, memory) {
    memory += FlowRows<T>::scratch(p.motion, p.scale);
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
    for (int64_t i = 0; i < p.motion.count; ++i) {
      const Step& step = p.motion.steps[i];
      const int64_t channels = i + 1 == p.motion.count ? 1 + p.carried : 1;
      masks_[i] = Enlarger<T>(p.motion, step, 4, channels, centre_shares(step.scale / p.scale),
                              memory);
      memory += Enlarger<T>::scratch(p.motion, step, 1 + p.carried, width_);
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
    const int64_t count = p_.motion.count;
    const int64_t first = p_.motion.sum_masks || count == 0 ? 0 : count - 1;
    for (int64_t i = first; i < count; ++i) {
      const float place = grid_place((static_cast<float>(y) + 0.5f) * static_cast<float>(p_.scale),
                                     p_.motion.steps[i].scale);
      masks_[i].add(batch, place, 0, 1, 1.0f, i == first, rest_ + 4 * width_);
      if (i + 1 == count && p_.carried > 0) {
        masks_[i].add(batch, place, 1, 1 + p_.carried, 1.0f, true, rest_ + 8 * width_);
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
  Enlarger<T> masks_[kMaxSteps];
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
