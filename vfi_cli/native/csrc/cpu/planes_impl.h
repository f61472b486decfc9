// Planes to pictures and back. Included by kernels_impl.h.
//
// Both ways go row by row, through memory that stays in the cache: chroma is filtered vertically
// while its rows are short, then along the row.
#pragma once

namespace vfi {
namespace {

template <typename T>
inline T* row_of(const Plane& plane, int64_t y) {
  return static_cast<T*>(plane.data) + y * plane.stride;
}

// ---------------------------------------------------------------------- to nominal values

// Twice the samples of a row, which is continued by a sample on either side.
inline void expand_row(const Coding& c, const float* row, float* VFI_RESTRICT out) {
  const int64_t count = halved(c.width);
  if (c.cosited_x) {
    for (int64_t i = 0; i < count; ++i) {
      out[2 * i] = row[i];
      out[2 * i + 1] = row[i] + 0.5f * (row[i + 1] - row[i]);
    }
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const float slope = 0.125f * (row[i + 1] - row[i - 1]);
    out[2 * i] = row[i] - slope;
    out[2 * i + 1] = row[i] + slope;
  }
  // A last sample without a partner is the chroma value itself.
  if (c.width % 2) out[c.width - 1] = row[count - 1];
}

template <typename T>
class NominalRows {
 public:
  static int64_t scratch(const Coding& c) { return 2 * (chroma_width(c) + 2 + c.width + 1); }

  NominalRows(const Coding& coding, float* memory) : c_(coding), memory_(memory) {}

  // Row y of the picture; its channels lie ``stride`` apart.
  void read(const Plane* planes, int64_t y, int64_t channels, float* out, int64_t stride) const {
    const float* chroma[2] = {};
    for (int64_t n = 1; n < c_.planes; ++n) chroma[n - 1] = chroma_row(planes[n], n, y);
    const T* VFI_RESTRICT luma = row_of<T>(planes[0], y);
    for (int64_t channel = 0; channel < channels; ++channel) {
      const float* weights = c_.decode + channel * c_.planes;
      float* VFI_RESTRICT to = out + channel * stride;
      const float base = weights[0], offset = c_.offsets[0];
      if (c_.planes == 1) {
        for (int64_t x = 0; x < c_.width; ++x) {
          to[x] = base * (static_cast<float>(luma[x]) - offset);
        }
        continue;
      }
      const float first = weights[1], second = weights[2];
      const float *u = chroma[0], *v = chroma[1];
      for (int64_t x = 0; x < c_.width; ++x) {
        to[x] = base * (static_cast<float>(luma[x]) - offset) + first * u[x] + second * v[x];
      }
    }
  }

 private:
  // Row y of plane n at full width, less its offset.
  const float* chroma_row(const Plane& plane, int64_t n, int64_t y) const {
    const int64_t columns = chroma_width(c_);
    float* const memory = memory_ + (n - 1) * (columns + 2 + c_.width + 1);
    float* VFI_RESTRICT row = memory + 1;
    const float offset = c_.offsets[n];
    const Spread spread = spread_at(y, c_.height, c_.half_y, c_.cosited_y);
    const T* at = row_of<T>(plane, spread.middle);
    if (spread.share == 0.0f) {
      for (int64_t i = 0; i < columns; ++i) row[i] = static_cast<float>(at[i]) - offset;
    } else {
      const T* above = row_of<T>(plane, spread.previous);
      const T* below = row_of<T>(plane, spread.next);
      for (int64_t i = 0; i < columns; ++i) {
        const int32_t slope = static_cast<int32_t>(below[i]) - static_cast<int32_t>(above[i]);
        row[i] = static_cast<float>(at[i]) - offset + spread.share * static_cast<float>(slope);
      }
    }
    if (!c_.half_x) return row;
    row[-1] = row[0];
    row[columns] = row[columns - 1];
    expand_row(c_, row, memory + columns + 2);
    return memory + columns + 2;
  }

  const Coding& c_;
  float* memory_;
};

inline void limit_row(int64_t n, float* VFI_RESTRICT row) {
  for (int64_t x = 0; x < n; ++x) {
    const float low = row[x] > 0.0f ? row[x] : 0.0f;
    row[x] = low < 1.0f ? low : 1.0f;
  }
}

template <typename T>
void decode_planes_as(const DecodePlanes& p, int64_t begin, int64_t end, float* memory) {
  const NominalRows<T> rows(p.coding, memory);
  const Picture& picture = p.picture;
  const int64_t width = p.coding.width, last = p.coding.height - 1;
  for (int64_t y = begin; y < end; ++y) {
    float* const out = picture.data + y * picture.row_stride;
    rows.read(p.planes, y, picture.channels, out, picture.channel_stride);
    for (int64_t channel = 0; channel < picture.channels; ++channel) {
      float* const row = out + channel * picture.channel_stride;
      if (p.limit) limit_row(width, row);
      for (int64_t x = width; x < p.width; ++x) row[x] = row[width - 1];
      for (int64_t below = p.height - 1; y == last && below > last; --below) {
        std::memcpy(row + (below - last) * picture.row_stride, row,
                    static_cast<size_t>(p.width) * sizeof(float));
      }
    }
  }
}

// -------------------------------------------------------------------- to code values

template <typename T>
inline void store_codes(int64_t n, const float* VFI_RESTRICT values, float peak,
                        T* VFI_RESTRICT out) {
  constexpr float whole = 12582912.0f;  // 1.5 · 2²³: a number of this size has no fraction
  for (int64_t i = 0; i < n; ++i) {
    const float low = values[i] > 0.0f ? values[i] : 0.0f;
    const float value = low < peak ? low : peak;
    out[i] = static_cast<T>(static_cast<int32_t>((value + whole) - whole));
  }
}

// Half the samples of a row.
inline void reduce_row(const Coding& c, const float* VFI_RESTRICT row, float* VFI_RESTRICT out) {
  const int64_t count = halved(c.width);
  const auto reduce_at = [&](int64_t i) {
    const Filter filter(i, c.width, true, c.cosited_x);
    float sum = 0.0f;
    for (int64_t k = 0; k < 5; ++k) {
      if (filter.shares[k] != 0.0f) sum += filter.shares[k] * row[2 * i - 2 + k];
    }
    out[i] = sum;
  };
  if (c.cosited_x) {
    for (int64_t i = 1; i + 1 < count; ++i) {
      out[i] = 0.75f * row[2 * i] + 0.25f * (row[2 * i - 1] + row[2 * i + 1]) -
               0.125f * (row[2 * i - 2] + row[2 * i + 2]);
    }
  } else {
    for (int64_t i = 1; i + 1 < count; ++i) out[i] = 0.5f * (row[2 * i] + row[2 * i + 1]);
  }
  reduce_at(0);
  reduce_at(count - 1);
}

// Makes code values from the top row to the last. Each row of the picture is read once, and its
// chroma, halved along the row, is kept until the rows are done that it has a share in.
template <typename T>
class CodeRows {
 public:
  static int64_t scratch(const EncodePlanes& p) {
    return (10 + 2 * kKept) * p.coding.width + NominalRows<T>::scratch(p.coding);
  }

  // ``first`` and ``stop``: the rows of luma that are this one's to store.
  CodeRows(const EncodePlanes& p, int64_t first, int64_t stop, float* memory)
      : p_(p), c_(p.coding), first_(first), stop_(stop), full_(memory), sum_(full_ + c_.width),
        left_(sum_ + 3 * c_.width), right_(left_ + 3 * c_.width), kept_(right_ + 3 * c_.width),
        nominal_(c_, kept_ + 2 * kKept * c_.width) {}

  // Row j of chroma, and the rows of luma that belong to it.
  void write(int64_t j) {
    if (!c_.half_y) {
      read(j);
      for (int64_t n = 1; n < c_.planes; ++n) {
        store_codes(chroma_width(c_), kept(n, j), c_.peak, row_of<T>(p_.planes[n], j));
      }
      return;
    }
    const Filter filter(j, c_.height, true, c_.cosited_y);
    for (int64_t k = 0; k < 5; ++k) {
      if (filter.shares[k] != 0.0f) read(2 * j - 2 + k);
    }
    for (int64_t n = 1; n < c_.planes; ++n) {
      const int64_t count = chroma_width(c_);
      const float* rows[5];
      for (int64_t k = 0; k < 5; ++k) {
        rows[k] = kept(n, filter.shares[k] != 0.0f ? 2 * j - 2 + k : 2 * j);
      }
      float* VFI_RESTRICT sum = full_;
      for (int64_t i = 0; i < count; ++i) {
        sum[i] = filter.shares[0] * rows[0][i] + filter.shares[1] * rows[1][i] +
                 filter.shares[2] * rows[2][i] + filter.shares[3] * rows[3][i] +
                 filter.shares[4] * rows[4][i];
      }
      store_codes(count, sum, c_.peak, row_of<T>(p_.planes[n], j));
    }
  }

 private:
  static constexpr int64_t kKept = 8;

  float* kept(int64_t n, int64_t y) const { return kept_ + (2 * (y % kKept) + n - 1) * c_.width; }

  // Stores luma of row y, and keeps its chroma.
  void read(int64_t y) {
    if (read_[y % kKept] == y) return;
    read_[y % kKept] = y;
    const float* row = p_.picture.data + y * p_.picture.row_stride;
    int64_t stride = p_.picture.channel_stride;
    if (p_.excess) {
      add_excess(y, row, stride);
      row = sum_;
      stride = c_.width;
    }
    if (y >= first_ && y < stop_) {
      mix(0, row, stride, full_);
      store_codes(c_.width, full_, c_.peak, row_of<T>(p_.planes[0], y));
    }
    for (int64_t n = 1; n < c_.planes; ++n) {
      mix(n, row, stride, c_.half_x ? full_ : kept(n, y));
      if (c_.half_x) reduce_row(c_, full_, kept(n, y));
    }
  }

  void add_excess(int64_t y, const float* row, int64_t stride) {
    nominal_.read(p_.left, y, 3, left_, c_.width);
    nominal_.read(p_.right, y, 3, right_, c_.width);
    for (int64_t channel = 0; channel < 3; ++channel) {
      const float* VFI_RESTRICT a = left_ + channel * c_.width;
      const float* VFI_RESTRICT b = right_ + channel * c_.width;
      const float* VFI_RESTRICT from = row + channel * stride;
      float* VFI_RESTRICT to = sum_ + channel * c_.width;
      for (int64_t x = 0; x < c_.width; ++x) {
        const float above = (a[x] < b[x] ? a[x] : b[x]) - 1.0f;
        const float below = a[x] > b[x] ? a[x] : b[x];
        to[x] = from[x] + (above > 0.0f ? above : 0.0f) + (below < 0.0f ? below : 0.0f);
      }
    }
  }

  // Code values of plane n, not rounded.
  void mix(int64_t n, const float* VFI_RESTRICT row, int64_t stride,
           float* VFI_RESTRICT out) const {
    const float* VFI_RESTRICT green = row + stride;
    const float* VFI_RESTRICT blue = green + stride;
    const float r = c_.encode[3 * n], g = c_.encode[3 * n + 1], b = c_.encode[3 * n + 2];
    const float offset = c_.offsets[n];
    for (int64_t x = 0; x < c_.width; ++x) {
      out[x] = r * row[x] + g * green[x] + b * blue[x] + offset;
    }
  }

  const EncodePlanes& p_;
  const Coding& c_;
  int64_t first_, stop_;
  float *full_, *sum_, *left_, *right_, *kept_;
  NominalRows<T> nominal_;
  int64_t read_[kKept] = {-1, -1, -1, -1, -1, -1, -1, -1};  // which rows are kept
};

template <typename T>
void encode_planes_as(const EncodePlanes& p, int64_t begin, int64_t end, float* memory) {
  const int64_t each = p.coding.half_y ? 2 : 1, height = p.coding.height;
  const int64_t stop = end * each < height ? end * each : height;
  CodeRows<T> rows(p, begin * each, stop, memory);
  for (int64_t j = begin; j < end; ++j) rows.write(j);
}

// -------------------------------------------------------------------------- dispatch

int64_t decode_planes_scratch(const DecodePlanes& p) {
  return NominalRows<uint8_t>::scratch(p.coding);
}

void decode_planes(const DecodePlanes& p, int64_t begin, int64_t end, float* memory) {
  if (p.coding.wide) return decode_planes_as<uint16_t>(p, begin, end, memory);
  decode_planes_as<uint8_t>(p, begin, end, memory);
}

int64_t encode_planes_scratch(const EncodePlanes& p) { return CodeRows<uint8_t>::scratch(p); }

void encode_planes(const EncodePlanes& p, int64_t begin, int64_t end, float* memory) {
  if (p.coding.wide) return encode_planes_as<uint16_t>(p, begin, end, memory);
  encode_planes_as<uint8_t>(p, begin, end, memory);
}

}  // namespace
}  // namespace vfi
