// The convolution of int8.h for processors with AVX-512 VNNI (Ice Lake, Zen 4 and later).
//
// For some pixels of a row and some vectors of channels the sums stay in registers. Each weight is
// loaded once for these pixels, and four neighbouring channels of a pixel are one broadcast. The
// inputs of a row are quantized once, into memory that stays in the cache.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx,avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), \
    apply_to = function)
#else
#pragma GCC target("avx,avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,prefer-vector-width=512")
#endif

#define VFI_FLOATS 16
#include "int8.h"
#include "numbers.h"

namespace vfi {
namespace {

constexpr int kWide = 16;  // floats in a register

inline __m512i plus_products(__m512i sums, __m512i inputs, __m512i weights) {
  return _mm512_dpbusd_epi32(sums, inputs, weights);
}
inline __m256i plus_products(__m256i sums, __m256i inputs, __m256i weights) {
  return _mm256_dpbusd_epi32(sums, inputs, weights);
}
inline void broadcast(__m512i* to, int32_t four) { *to = _mm512_set1_epi32(four); }
inline void broadcast(__m256i* to, int32_t four) { *to = _mm256_set1_epi32(four); }

// How one input is read: quantized rows, and from where in them.
struct Reading {
  const uint8_t* rows[kInt8MaxKernel];
  const int8_t* weight;
  const int32_t* start;
  int64_t kernel, apart, quads, lanes;  // apart: bytes between pixels; quads of a kernel's row
};

// The sums of ``pixels`` neighbours in ``vectors`` vectors of channels: (pixels, vectors, lanes).
template <typename Lanes, int vectors, int pixels>
void sum_tile(const Reading& reading, int64_t at, int32_t* to) {
  Lanes sums[pixels][vectors];
  for (int v = 0; v < vectors; ++v) {
    const Lanes first = load_vector<Lanes>(reading.start + v * reading.lanes);
    for (int i = 0; i < pixels; ++i) sums[i][v] = first;
  }
  const int64_t apart = reading.apart, quads = reading.quads;
  const int64_t vector_bytes = reading.kernel * quads * static_cast<int64_t>(sizeof(Lanes));
  const int8_t* weight = reading.weight;
  for (int64_t y = 0; y < reading.kernel; ++y) {
    const uint8_t* row = reading.rows[y] + at * apart;
    for (int64_t k = 0; k < quads; ++k) {
      Lanes w[vectors];
      for (int v = 0; v < vectors; ++v) w[v] = load_vector<Lanes>(weight + v * vector_bytes);
      weight += sizeof(Lanes);
      for (int i = 0; i < pixels; ++i) {
        Lanes inputs;
        broadcast(&inputs, load_vector<int32_t>(row + i * apart + 4 * k));
        for (int v = 0; v < vectors; ++v) sums[i][v] = plus_products(sums[i][v], inputs, w[v]);
      }
    }
  }
  for (int i = 0; i < pixels; ++i) {
    for (int v = 0; v < vectors; ++v) {
      std::memcpy(to + (i * vectors + v) * reading.lanes, &sums[i][v], sizeof(Lanes));
    }
  }
}

using SumTile = void (*)(const Reading&, int64_t, int32_t*);

constexpr int kMostVectors = 4, kMostPixels = 8;

// As many pixels as leave registers for weights and inputs.
constexpr int most_pixels(int64_t vectors) { return vectors == 4 ? 6 : kMostPixels; }

template <typename Lanes, int vectors>
SumTile tile_of(int64_t pixels) {
  constexpr int most = most_pixels(vectors);
  constexpr SumTile tiles[kMostPixels] = {
      sum_tile<Lanes, vectors, 1>,
      sum_tile<Lanes, vectors, 2>,
      sum_tile<Lanes, vectors, 3>,
      sum_tile<Lanes, vectors, 4>,
      sum_tile<Lanes, vectors, 5>,
      sum_tile<Lanes, vectors, 6>,
      sum_tile<Lanes, vectors, std::min(7, most)>,
      sum_tile<Lanes, vectors, most>};
  return tiles[pixels - 1];
}

template <typename Lanes>
SumTile tile_of(int64_t vectors, int64_t pixels) {
  switch (vectors) {
    case 1: return tile_of<Lanes, 1>(pixels);
    case 2: return tile_of<Lanes, 2>(pixels);
    case 3: return tile_of<Lanes, 3>(pixels);
    default: return tile_of<Lanes, 4>(pixels);
  }
}

// Sixteen values, or as many of them as the mask has bits; the others are 0, or stay.
inline __mmask16 first_lanes(int64_t n) {
  return n >= kWide ? __mmask16(0xffff) : static_cast<__mmask16>((1u << n) - 1);
}
inline __m512 load(__mmask16 some, const float* from) { return _mm512_maskz_loadu_ps(some, from); }
inline __m512 load(__mmask16 some, const BFloat16* from) {
  const __m256i bits = _mm256_maskz_loadu_epi16(some, from);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
// ``count``: sixteen or eight, known to the compiler, or 0 for those of the mask. Masked stores of
// bfloat16 take many cycles on some processors.
template <int count>
inline void store(__mmask16 some, float* to, __m512 x) {
  if constexpr (count == 16) {
    _mm512_storeu_ps(to, x);
  } else {
    _mm512_mask_storeu_ps(to, some, x);
  }
}
template <int count>
inline void store(__mmask16 some, BFloat16* to, __m512 x) {
  const auto narrow = (__m256i)to_bfloat16((Vector<float, kWide>)x);
  if constexpr (count == 16) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), narrow);
  } else if constexpr (count == 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(narrow));
  } else {
    _mm256_mask_storeu_epi16(to, some, narrow);
  }
}

// The larger of the most so far and of the magnitudes of x; NaN is none.
inline __m512 larger(__m512 most, __m512 x) { return _mm512_max_ps(_mm512_abs_ps(x), most); }

template <typename T>
inline T* at(const View& view, int64_t b, int64_t y, int64_t x) {
  return static_cast<T*>(view.data) + b * view.batch_stride + y * view.y_stride +
         x * view.x_stride;
}

// The first ``count`` of sixteen numbers as bytes. Masked stores of bytes take many cycles on some
// processors, so that fours are stored without where that does.
inline void store_bytes(uint8_t* to, int64_t count, __m512 x) {
  // NaN becomes the least integer, of which the lowest byte is 0.
  const __m512i whole = _mm512_add_epi32(_mm512_cvtps_epi32(x), _mm512_set1_epi32(kInt8Zero));
  __m128i bytes = _mm512_cvtepi32_epi8(whole);
  if (count >= kWide) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
    return;
  }
  if (count & 8) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), bytes);
    bytes = _mm_srli_si128(bytes, 8);
    to += 8;
  }
  if (count & 4) {
    const int32_t four = _mm_cvtsi128_si32(bytes);
    std::memcpy(to, &four, sizeof four);
  }
}

// A row of an input as 8-bit numbers.
template <typename T>
void quantize(const Int8Input& in, int64_t b, int64_t y, int64_t width, __m512 share, uint8_t* to) {
  for (int64_t x = 0; x < width; ++x, to += in.room) {
    const T* from = at<const T>(in.x, b, y, x);
    for (int64_t c = 0; c < in.channels; c += kWide) {
      const __m512 values = load(first_lanes(in.channels - c), from + c);
      store_bytes(to + c, in.room - c, _mm512_mul_ps(values, share));
    }
  }
}

// The same of an input of half the size: each pixel is 9, 3, 3 and 1 sixteenth of the nearest four.
template <typename T>
void quantize_half(const Int8Input& in, int64_t b, int64_t y, int64_t height, int64_t width,
                   __m512 share, uint8_t* to) {
  const int64_t last_row = height / 2 - 1, last_column = width / 2 - 1;
  const int64_t near_row = y / 2;
  const int64_t far_row = std::clamp<int64_t>(near_row + (y % 2 == 0 ? -1 : 1), 0, last_row);
  const __m512 three = _mm512_set1_ps(3);
  const __m512 of_sum = _mm512_mul_ps(share, _mm512_set1_ps(1.0f / 16));
  for (int64_t x = 0; x < width; ++x, to += in.room) {
    const int64_t near = x / 2;
    const int64_t far = std::clamp<int64_t>(near + (x % 2 == 0 ? -1 : 1), 0, last_column);
    const T* nearest = at<const T>(in.x, b, near_row, near);
    const T* across = at<const T>(in.x, b, near_row, far);
    const T* down = at<const T>(in.x, b, far_row, near);
    const T* farthest = at<const T>(in.x, b, far_row, far);
    for (int64_t c = 0; c < in.channels; c += kWide) {
      const __mmask16 some = first_lanes(in.channels - c);
      const __m512 here = _mm512_fmadd_ps(three, load(some, nearest + c), load(some, across + c));
      const __m512 there = _mm512_fmadd_ps(three, load(some, down + c), load(some, farthest + c));
      const __m512 sum = _mm512_fmadd_ps(three, here, there);
      store_bytes(to + c, in.room - c, _mm512_mul_ps(sum, of_sum));
    }
  }
}

struct Channels {  // of those that are put out
  int64_t first, count;
};

// Where neighbouring pixels of a row lie: so many values apart. ``data`` may be null.
template <typename T>
struct Line {
  T* data;
  int64_t apart;

  Line from(int64_t x) const { return {data == nullptr ? nullptr : data + x * apart, apart}; }
};

template <typename T>
Line<T> line_of(const View& view, int64_t b, int64_t y, int64_t channel) {
  if (view.data == nullptr) return {nullptr, 0};
  return {at<T>(view, b, y, 0) + channel, view.x_stride};
}

// What the sums of a tile's pixels become.
template <typename T>
struct Finish {
  int64_t pixels, inputs;
  int64_t apart;  // between the sums of two pixels
  const int32_t* sums[kInt8MaxInputs];
  const float* scales[kInt8MaxInputs];
  const float* bias;
  const float* slopes;
  Line<const T> before, after;
  Line<T> out;
};

// Sixteen channels of all pixels, or as many as the mask has bits, and the largest magnitude of
// them and of those before. ``count`` as in ``store``.
template <int count, typename T>
__m512 finish_channels(const Finish<T>& f, int64_t i, __mmask16 some, __m512 most) {
  const __m512 bias = _mm512_loadu_ps(f.bias + i), slopes = _mm512_loadu_ps(f.slopes + i);
  const __m512 zero = _mm512_setzero_ps(), scale = _mm512_loadu_ps(f.scales[0] + i);
  const int32_t* sums = f.sums[0] + i;
  for (int64_t pixel = 0; pixel < f.pixels; ++pixel) {
    const __m512 whole = _mm512_cvtepi32_ps(_mm512_loadu_si512(sums + pixel * f.apart));
    __m512 value = _mm512_fmadd_ps(whole, scale, bias);
    if (f.inputs > 1) {
      const __m512 other =
          _mm512_cvtepi32_ps(_mm512_loadu_si512(f.sums[1] + i + pixel * f.apart));
      value = _mm512_fmadd_ps(other, _mm512_loadu_ps(f.scales[1] + i), value);
    }
    if (f.before.data != nullptr) {
      value = _mm512_add_ps(value, load(some, f.before.data + i + pixel * f.before.apart));
    }
    const __mmask16 below = _mm512_cmp_ps_mask(value, zero, _CMP_LT_OQ);
    value = _mm512_mask_mul_ps(value, below, value, slopes);
    if (f.after.data != nullptr) {
      value = _mm512_add_ps(value, load(some, f.after.data + i + pixel * f.after.apart));
    }
    store<count>(some, f.out.data + i + pixel * f.out.apart, value);
    most = larger(most, count == kWide ? value : _mm512_maskz_mov_ps(some, value));
  }
  return most;
}

template <typename T>
__m512 finish(const Finish<T>& f, int64_t channels, __m512 most) {
  int64_t i = 0;
  for (; i + kWide <= channels; i += kWide) {
    most = finish_channels<kWide>(f, i, first_lanes(kWide), most);
  }
  if (channels - i == kWide / 2) {
    most = finish_channels<kWide / 2>(f, i, first_lanes(kWide / 2), most);
  } else if (i < channels) {
    most = finish_channels<0>(f, i, first_lanes(channels - i), most);
  }
  return most;
}

// The rows of one input that lie in memory: the last ``kernel`` of them, and one of zeros.
template <typename T>
class Rows {
 public:
  Rows(const Int8Conv& p, const Int8Input& in, uint8_t* memory)
      : p_(p), in_(in), memory_(memory), bytes_(row_bytes(p, in)) {
    // Zeros on both sides are written here, and stay.
    std::memset(memory, kInt8Zero, static_cast<size_t>((p.kernel + 1) * bytes_));
  }

  static int64_t row_bytes(const Int8Conv& p, const Int8Input& in) {
    return (p.width + 2 * p.padding) * in.room;
  }

  // Points ``rows`` to those that begin at ``top``.
  void read(int64_t b, int64_t top, const uint8_t** rows) {
    if (b != sample_) {
      sample_ = b;
      known_ = top - 1;
      const float peak = in_.peaks[b];
      share_ = _mm512_set1_ps(peak > 0 ? kInt8Peak / peak : 0);
    }
    for (int64_t k = 0; k < p_.kernel; ++k) {
      const int64_t y = top + k;
      const bool inside = y >= 0 && y < p_.height;
      uint8_t* kept = memory_ + (inside ? y % p_.kernel : p_.kernel) * bytes_;
      if (inside && y > known_) {
        uint8_t* to = kept + p_.padding * in_.room;
        if (in_.half) {
          quantize_half<T>(in_, b, y, p_.height, p_.width, share_, to);
        } else {
          quantize<T>(in_, b, y, p_.width, share_, to);
        }
      }
      rows[k] = kept;
    }
    known_ = top + p_.kernel - 1;
  }

 private:
  const Int8Conv& p_;
  const Int8Input& in_;
  uint8_t* memory_;
  int64_t bytes_, known_ = -1, sample_ = -1;
  __m512 share_ = _mm512_setzero_ps();
};

int64_t input_bytes(const Int8Conv& p, const Int8Input& in) {
  return (p.kernel + 1) * Rows<float>::row_bytes(p, in);
}

// Floats for the scales of one input.
int64_t columns(const Int8Conv& p) { return p.vectors * p.lanes + kInt8Slack; }

int64_t scratch(const Int8Conv& p) {
  int64_t bytes = 0;
  for (int64_t k = 0; k < p.count; ++k) {
    bytes += columns(p) * static_cast<int64_t>(sizeof(float)) + input_bytes(p, p.inputs[k]);
  }
  return bytes;
}

template <typename T>
void convolve_as(const Int8Conv& p, int64_t begin, int64_t end, uint8_t* memory) {
  float* scales[kInt8MaxInputs] = {};
  for (int64_t k = 0; k < p.count; ++k) {
    scales[k] = reinterpret_cast<float*>(memory);
    memory += columns(p) * static_cast<int64_t>(sizeof(float));
  }
  std::optional<Rows<T>> rows[kInt8MaxInputs];
  for (int64_t k = 0; k < p.count; ++k) {
    rows[k].emplace(p, p.inputs[k], memory);
    memory += input_bytes(p, p.inputs[k]);
  }
  const int64_t blocks = (p.vectors + kMostVectors - 1) / kMostVectors;
  int64_t sample = -1;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t b = row / p.out_height, y = row % p.out_height;
    Reading readings[kInt8MaxInputs];
    for (int64_t k = 0; k < p.count; ++k) {
      const Int8Input& in = p.inputs[k];
      rows[k]->read(b, y * p.stride - p.padding, readings[k].rows);
      readings[k].kernel = p.kernel;
      readings[k].apart = p.stride * in.room;
      readings[k].quads = p.kernel * in.room / 4;
      readings[k].lanes = p.lanes;
      if (b != sample) {
        const float share = in.peaks[b] / kInt8Peak;
        for (int64_t c = 0; c < columns(p); ++c) scales[k][c] = in.scale[c] * share;
      }
    }
    sample = b;
    __m512 most = _mm512_setzero_ps();
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t first = block * p.vectors / blocks;
      const int64_t vectors = (block + 1) * p.vectors / blocks - first;
      const Channels channels = {first * p.lanes,
                                 std::min(vectors * p.lanes, p.out_channels - first * p.lanes)};
      const int64_t limit = most_pixels(vectors);
      const int64_t tiles = (p.out_width + limit - 1) / limit;
      const int64_t pixels = (p.out_width + tiles - 1) / tiles;
      const SumTile sum = p.lanes == 8 ? tile_of<__m256i>(vectors, pixels)
                                       : tile_of<__m512i>(vectors, pixels);
      alignas(64) int32_t sums[kInt8MaxInputs][kMostPixels * kMostVectors * kWide + kWide];
      Finish<T> f = {};
      f.pixels = pixels;
      f.inputs = p.count;
      f.apart = vectors * p.lanes;
      f.bias = p.bias + channels.first;
      f.slopes = p.slopes + channels.first;
      for (int64_t k = 0; k < p.count; ++k) {
        const Int8Input& in = p.inputs[k];
        readings[k].weight = in.weight + first * p.kernel * p.kernel * in.room * p.lanes;
        readings[k].start = in.start + channels.first;
        f.sums[k] = sums[k];
        f.scales[k] = scales[k] + channels.first;
      }
      const Line<const T> before = line_of<const T>(p.before, b, y, channels.first);
      const Line<const T> after = line_of<const T>(p.after, b, y, channels.first);
      const Line<T> out = line_of<T>(p.out, b, y, channels.first);
      // The last tile takes some pixels again where the width is no multiple.
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t x0 = std::min(tile * pixels, p.out_width - pixels);
        for (int64_t k = 0; k < p.count; ++k) sum(readings[k], x0, sums[k]);
        f.before = before.from(x0);
        f.after = after.from(x0);
        f.out = out.from(x0);
        most = finish(f, channels.count, most);
      }
    }
    p.row_peaks[row] = _mm512_reduce_max_ps(most);
  }
}

void convolve(DType dtype, const Int8Conv& p, int64_t begin, int64_t end, uint8_t* memory) {
  if (dtype == DType::float32) {
    convolve_as<float>(p, begin, end, memory);
  } else {
    convolve_as<BFloat16>(p, begin, end, memory);
  }
}

template <typename T>
float peak_as(const View& view, int64_t channels, int64_t width, int64_t batch, int64_t row) {
  __m512 most = _mm512_setzero_ps();
  for (int64_t x = 0; x < width; ++x) {
    const T* from = at<const T>(view, batch, row, x);
    for (int64_t c = 0; c < channels; c += kWide) {
      most = larger(most, load(first_lanes(channels - c), from + c));
    }
  }
  return _mm512_reduce_max_ps(most);
}

float peak(DType dtype, const View& view, int64_t channels, int64_t width, int64_t batch,
           int64_t row) {
  return dtype == DType::float32 ? peak_as<float>(view, channels, width, batch, row)
                                 : peak_as<BFloat16>(view, channels, width, batch, row);
}

}  // namespace

const Int8Kernels kVnniKernels = {scratch, convolve, peak};

}  // namespace vfi

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
