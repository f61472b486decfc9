// What the steps of a motion say of a row of pixels: enlarged and summed. Included by motion_impl.h.
//
// All rows of a result are asked for from top to bottom, so the two grid rows of each step that
// were needed last are kept. A row of pixels is first mixed from two rows of the grid, where it is
// small; what makes it large is in registers.
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

// As many as a register holds: more would be shuffled one by one.
using Floats = Vector<float, kFloats>;

// row[first], row[first + 1] … for ``each`` lanes each.
template <int64_t each, int64_t first, size_t... lane>
VFI_ALWAYS_INLINE Floats repeated(const Floats& row, std::index_sequence<lane...>) {
  return __builtin_shufflevector(row, row, (static_cast<int64_t>(lane) / each + first)...);
}

template <bool set>
VFI_ALWAYS_INLINE void put(float* out, const Floats& lanes) {
  store_lanes<Floats>(out, set ? lanes : load_lanes<Floats>(out) + lanes);
}

// As many of the n points as fill whole vectors, in which a point has ``each`` places; returns how
// many points that was.
template <int64_t each, bool set>
inline int64_t enlarge_lanes(const Shares& shares, int64_t n, const float* row,
                             float* VFI_RESTRICT out) {
  constexpr int64_t points = kFloats / each;
  constexpr auto lanes = std::make_index_sequence<kFloats>();
  const int64_t spread = shares.spread;
  int64_t i = 0;
  for (int64_t j = 0; j < spread; j += each) {
    Floats left, middle, right;
    for (int64_t k = 0; k < kFloats; ++k) {
      left[k] = shares.left[j + k % each];
      middle[k] = shares.middle[j + k % each];
      right[k] = shares.right[j + k % each];
    }
    for (i = 0; i + points <= n; i += points) {
      Floats before, here, after;
      if constexpr (points == 1) {
        before = Floats{} + row[i - 1];
        here = Floats{} + row[i];
        after = Floats{} + row[i + 1];
      } else {
        const Floats around = load_lanes<Floats>(row + i - 1);
        before = repeated<each, 0>(around, lanes);
        here = repeated<each, 1>(around, lanes);
        after = repeated<each, 2>(around, lanes);
      }
      put<set>(out + i * spread + j, before * left + here * middle + after * right);
    }
  }
  return i;
}

// out += row[0 … n), enlarged; instead of adding, sets where ``set``. There is memory, with any
// values, from row[-1] to row[n + kFloats]; the first and row[n] count.
template <bool set>
inline void enlarge(const Shares& shares, int64_t n, const float* row, float* VFI_RESTRICT out) {
  const int64_t spread = shares.spread;
  int64_t i = 0;
  if (spread == 1) {
    for (; i < n; ++i) out[i] = set ? row[i] : out[i] + row[i];
  } else if (spread % kFloats == 0) {
    i = enlarge_lanes<kFloats, set>(shares, n, row, out);
  } else if (spread == 2) {
    i = enlarge_lanes<2, set>(shares, n, row, out);
  } else if (spread == kFloats / 2) {
    i = enlarge_lanes<kFloats / 2, set>(shares, n, row, out);
  } else if (spread == kFloats / 4) {
    i = enlarge_lanes<(kFloats > 4 ? kFloats / 4 : 1), set>(shares, n, row, out);
  }
  for (; i < n; ++i) {
    for (int64_t j = 0; j < spread; ++j) {
      const float value = row[i - 1] * shares.left[j] + row[i] * shares.middle[j] +
                          row[i + 1] * shares.right[j];
      out[i * spread + j] = set ? value : out[i * spread + j] + value;
    }
  }
}

// The first step after ``begin`` that has another grid.
inline int64_t end_of_grid(const Motion& motion, int64_t begin) {
  int64_t end = begin + 1;
  while (end < motion.count && motion.steps[end].scale == motion.steps[begin].scale) ++end;
  return end;
}

// Some channels of steps that have one grid, enlarged: flow and, where a motion sums its masks,
// the mask are sums over the steps; other channels are the last one's.
template <typename T>
class Enlarger {
 public:
  // Floats of memory for one of so many channels.
  static int64_t scratch(const Motion& motion, const Step& step, int64_t channels) {
    return (2 * channels + 1) * stride(motion, step);
  }

  Enlarger() = default;
  // Of the steps [begin, end), ``channels`` from ``first`` on.
  Enlarger(const Motion& motion, int64_t begin, int64_t end, int64_t first, int64_t channels,
           const Shares& shares, float* memory)
      : motion_(&motion), begin_(begin), end_(end), first_(first), channels_(channels),
        shares_(shares), height_(motion.steps[begin].height), width_(motion.steps[begin].width),
        stride_(stride(motion, motion.steps[begin])) {
    mixed_ = memory + motion.side;
    kept_[0] = mixed_ + stride_;
    kept_[1] = kept_[0] + channels * stride_;
  }

  int64_t scale() const { return motion_->steps[begin_].scale; }

  // out(channel, x) += gain · the channel at row ``place`` of the grid, for the channels
  // [from, to) of this enlarger; instead of adding, sets where ``set``.
  void add(int64_t batch, float place, int64_t from, int64_t to, float gain, bool set, float* out) {
    const float last = static_cast<float>(height_ - 1);
    place = place > 0.0f ? place : 0.0f;
    place = place < last ? place : last;
    const int64_t above = static_cast<int64_t>(place);
    const int64_t below = above + 1 < height_ ? above + 1 : above;
    const float share = (place - static_cast<float>(above)) * gain;
    const float rest = gain - share;
    const float* upper = kept(batch, above) + from * stride_;
    const float* lower = kept(batch, below) + from * stride_;
    const int64_t width = width_;  // which no store below changes
    for (int64_t c = from; c < to; ++c, upper += stride_, lower += stride_) {
      float* VFI_RESTRICT mixed = mixed_;
      for (int64_t i = -1; i <= width; ++i) mixed[i] = upper[i] * rest + lower[i] * share;
      if (set) {
        enlarge<true>(shares_, width, mixed, out);
      } else {
        enlarge<false>(shares_, width, mixed, out);
      }
      out += width * shares_.spread;
    }
  }

 private:
  // From one row to the next: tiles reach over both ends of a row, vectors over the last.
  static int64_t stride(const Motion& motion, const Step& step) {
    return step.width + 2 * motion.side + kFloats;
  }

  const float* kept(int64_t batch, int64_t y) {
    const int64_t slot = y & 1, name = batch * height_ + y;
    if (name_[slot] != name) {
      name_[slot] = name;
      for (int64_t c = 0; c < channels_; ++c) read(batch, y, first_ + c, kept_[slot] + c * stride_);
    }
    return kept_[slot];
  }

  // One channel of one grid row to row[0 … width), with its ends repeated on both sides.
  void read(int64_t batch, int64_t y, int64_t channel, float* row) {
    const bool summed = channel < 4 || (channel == 4 && motion_->sum_masks);
    const int64_t side = motion_->side, half = side / 2;
    const int64_t begin = summed ? begin_ : end_ - 1;
    for (int64_t i = begin; i < end_; ++i) {
      const Step& step = motion_->steps[i];
      const T* tiles = at<T>(step.tiles, batch, (y + half) / side, 0) +
                       (y + half) % side * side * step.channels + channel;
      if (i == begin) {
        read_step<true>(step, tiles, row);
      } else {
        read_step<false>(step, tiles, row);
      }
    }
    row[-1] = row[0];
    row[width_] = row[width_ - 1];
  }

  template <bool set>
  void read_step(const Step& step, const T* tiles, float* row) {
    switch (motion_->side) {
      case 4: return read_tiles<4, set>(step, tiles, row);
      case 2: return read_tiles<2, set>(step, tiles, row);
      default: return read_tiles<1, set>(step, tiles, row);
    }
  }

  template <int64_t side, bool set>
  static void read_tiles(const Step& step, const T* VFI_RESTRICT tile, float* VFI_RESTRICT row) {
    const int64_t n = step.channels, stride = step.tiles.x_stride;
    const int64_t count = (step.width + side / 2 + side - 1) / side;
    float* to = row - side / 2;
    for (int64_t i = 0; i < count; ++i, tile += stride, to += side) {
      for (int64_t j = 0; j < side; ++j) to[j] = set ? load(tile[j * n]) : to[j] + load(tile[j * n]);
    }
  }

  const Motion* motion_ = nullptr;
  int64_t begin_ = 0, end_ = 0, first_ = 0, channels_ = 0;
  Shares shares_;
  int64_t height_ = 0, width_ = 0, stride_ = 0;
  float* mixed_ = nullptr;
  float* kept_[2] = {};
  int64_t name_[2] = {-1, -1};
};

// The flow (and mask, at full size) at the pixels of a reduction's lattice.
template <typename T>
class FlowRows {
 public:
  static int64_t scratch(const Motion& motion) {
    int64_t total = 0;
    for (int64_t i = 0; i < motion.count; ++i) {
      total += Enlarger<T>::scratch(motion, motion.steps[i], 5);
    }
    return total;
  }

  FlowRows(const Motion& motion, int64_t reduction, bool with_mask, float* memory)
      : motion_(motion), reduction_(reduction), with_mask_(with_mask),
        columns_(reduction == 1 ? motion.width : 2 * (motion.width / reduction)) {
    for (int64_t i = 0, end; i < motion.count; i = end) {
      end = end_of_grid(motion, i);
      const bool masked = with_mask && (motion.sum_masks || end == motion.count);
      grids_[count_++] = {masked,
                          Enlarger<T>(motion, i, end, 0, masked ? 5 : 4,
                                      lattice_shares(motion.steps[i].scale, reduction), memory)};
      memory += Enlarger<T>::scratch(motion, motion.steps[i], 5);
    }
  }

  int64_t columns() const { return columns_; }

  // Flow (4 channels) in pixels of the frames, and the mask where it is asked for, to ``out``
  // (channels, columns).
  void read(int64_t batch, int64_t lattice_row, float* out) {
    if (count_ == 0) {
      for (int64_t i = 0; i < (with_mask_ ? 5 : 4) * columns_; ++i) out[i] = 0.0f;
    }
    const float centre = static_cast<float>(lattice_pixel(lattice_row, reduction_)) + 0.5f;
    bool first_mask = true;
    for (int64_t i = 0; i < count_; ++i) {
      auto& [masked, grid] = grids_[i];
      const float place = grid_place(centre, grid.scale());
      grid.add(batch, place, 0, 4, static_cast<float>(grid.scale()), i == 0, out);
      if (masked) {
        grid.add(batch, place, 4, 5, 1.0f, first_mask, out + 4 * columns_);
        first_mask = false;
      }
    }
  }

 private:
  struct Grid {
    bool masked;
    Enlarger<T> rows;
  };

  const Motion& motion_;
  int64_t reduction_;
  bool with_mask_;
  int64_t columns_;
  int64_t count_ = 0;
  Grid grids_[kMaxSteps];
};

}  // namespace
}  // namespace vfi
