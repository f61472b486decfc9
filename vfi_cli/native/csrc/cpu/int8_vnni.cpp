// The convolution of int8.h for processors with AVX-512 VNNI (Ice Lake, Zen 4 and later).
//
// For some pixels of a row and some vectors of channels the sums stay in registers. Each weight is
// loaded once for these pixels, and four neighbouring channels of a pixel are one broadcast. The
// inputs of a row are quantized once, into memory that stays in the cache.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx,avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), \
    apply_to = function)
#else
#pragma GCC target("avx,avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,prefer-vector-width=512")
#endif

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

// The sums of ``pixels`` neighbours in ``vectors`` vectors of channels: (pixels, vectors, lanes).
template <typename Lanes, int vectors, int pixels>
void sum_tile(const Int8Conv& p, const uint8_t* const* rows, int64_t at, const int8_t* weight,
              const int32_t* start, int32_t* to) {
  Lanes sums[pixels][vectors];
  for (int v = 0; v < vectors; ++v) {
    const Lanes first = load_vector<Lanes>(start + v * p.lanes);
    for (int i = 0; i < pixels; ++i) sums[i][v] = first;
  }
  const int64_t apart = p.stride * p.room;          // bytes between pixels
  const int64_t quads = p.kernel * p.room / 4;      // of a row of the kernel
  const int64_t vector_bytes = p.kernel * quads * static_cast<int64_t>(sizeof(Lanes));
  for (int64_t y = 0; y < p.kernel; ++y) {
    const uint8_t* row = rows[y] + at * apart;
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
      std::memcpy(to + (i * vectors + v) * p.lanes, &sums[i][v], sizeof(Lanes));
    }
  }
}

using SumTile = void (*)(const Int8Conv&, const uint8_t* const*, int64_t, const int8_t*,
                         const int32_t*, int32_t*);

constexpr int kMostVectors = 4, kMostPixels = 8;

// As many pixels as leave registers for weights and inputs.
constexpr int most_pixels(int64_t vectors) { return vectors == 4 ? 6 : kMostPixels; }

template <typename Lanes, int vectors>
SumTile tile_of(int64_t pixels) {
  constexpr SumTile tiles[kMostPixels] = {
      sum_tile<Lanes, vectors, 1>, sum_tile<Lanes, vectors, 2>, sum_tile<Lanes, vectors, 3>,
      sum_tile<Lanes, vectors, 4>, sum_tile<Lanes, vectors, 5>, sum_tile<Lanes, vectors, 6>,
      sum_tile<Lanes, vectors, vectors == 4 ? 6 : 7>, sum_tile<Lanes, vectors, vectors == 4 ? 6 : 8>};
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
inline void store(__mmask16 some, float* to, __m512 x) { _mm512_mask_storeu_ps(to, some, x); }
inline void store(__mmask16 some, BFloat16* to, __m512 x) {
  const auto narrow = to_bfloat16((Vector<float, kWide>)x);
  _mm256_mask_storeu_epi16(to, some, (__m256i)narrow);
}

// The larger of the most so far and of the magnitudes of x; NaN is none.
inline __m512 larger(__m512 most, __m512 x) { return _mm512_max_ps(_mm512_abs_ps(x), most); }

template <typename T>
inline T* at(const View& view, int64_t b, int64_t y, int64_t x) {
  return static_cast<T*>(view.data) + b * view.batch_stride + y * view.y_stride +
         x * view.x_stride;
}

// A row of the input as 8-bit numbers, between ``padding`` zeros on both sides.
template <typename T>
void quantize(const Int8Conv& p, int64_t b, int64_t y, float share, uint8_t* to) {
  const __m512 scale = _mm512_set1_ps(share);
  const __m512i zero = _mm512_set1_epi32(kInt8Zero);
  const size_t side = static_cast<size_t>(p.padding * p.room);
  std::memset(to, kInt8Zero, side);
  to += side;
  for (int64_t x = 0; x < p.width; ++x, to += p.room) {
    const T* from = at<const T>(p.x, b, y, x);
    for (int64_t c = 0; c < p.channels; c += kWide) {
      const __m512 values = load(first_lanes(p.channels - c), from + c);
      // NaN becomes the least integer, of which the lowest byte is 0.
      const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(values, scale));
      _mm_mask_storeu_epi8(to + c, first_lanes(p.room - c),
                           _mm512_cvtepi32_epi8(_mm512_add_epi32(whole, zero)));
    }
  }
  std::memset(to, kInt8Zero, side);
}

struct Channels {  // of those that are put out
  int64_t first, count;
};

// What the sums of a pixel become, and the largest magnitude of it and of those before.
template <typename T>
__m512 finish(const Int8Conv& p, const int32_t* sums, Channels channels, __m512 share,
              const T* before, const T* after, T* to, __m512 most) {
  for (int64_t i = 0; i < channels.count; i += kWide) {
    const int64_t c = channels.first + i;
    const __mmask16 some = first_lanes(channels.count - i);
    const __m512 whole = _mm512_cvtepi32_ps(_mm512_loadu_si512(sums + i));
    __m512 value = _mm512_fmadd_ps(whole, _mm512_mul_ps(_mm512_loadu_ps(p.scale + c), share),
                                   _mm512_loadu_ps(p.bias + c));
    if (before != nullptr) value = _mm512_add_ps(value, load(some, before + c));
    const __mmask16 below = _mm512_cmp_ps_mask(value, _mm512_setzero_ps(), _CMP_LT_OQ);
    value = _mm512_mask_mul_ps(value, below, value, _mm512_loadu_ps(p.slopes + c));
    if (after != nullptr) value = _mm512_add_ps(value, load(some, after + c));
    store(some, to + c, value);
    most = larger(most, _mm512_maskz_mov_ps(some, value));
  }
  return most;
}

int64_t row_bytes(const Int8Conv& p) { return (p.width + 2 * p.padding) * p.room; }

int64_t scratch(const Int8Conv& p) { return (p.kernel + 1) * row_bytes(p); }

template <typename T>
void convolve_as(const Int8Conv& p, int64_t begin, int64_t end, uint8_t* memory) {
  const int64_t bytes = row_bytes(p);
  uint8_t* const outside = memory + p.kernel * bytes;
  std::memset(outside, kInt8Zero, static_cast<size_t>(bytes));
  const int64_t blocks = (p.vectors + kMostVectors - 1) / kMostVectors;
  int64_t known = -1;  // rows of the input up to here lie in memory, the last ``kernel`` of them
  int64_t sample = -1;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t b = row / p.out_height, y = row % p.out_height;
    const float peak = p.peaks[b];
    const float to_bytes = peak > 0 ? kInt8Peak / peak : 0, share = peak / kInt8Peak;
    const int64_t top = y * p.stride - p.padding;
    if (b != sample) {
      sample = b;
      known = top - 1;
    }
    const uint8_t* rows[kInt8MaxKernel];
    for (int64_t k = 0; k < p.kernel; ++k) {
      const int64_t source = top + k;
      const bool inside = source >= 0 && source < p.height;
      uint8_t* kept = memory + (source + p.kernel) % p.kernel * bytes;
      if (inside && source > known) quantize<T>(p, b, source, to_bytes, kept);
      rows[k] = inside ? kept : outside;
    }
    known = top + p.kernel - 1;
    const __m512 scale = _mm512_set1_ps(share);
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
      const int8_t* weight = p.weight + first * p.kernel * p.kernel * p.room * p.lanes;
      // The last tile takes some pixels again where the width is no multiple.
      alignas(64) int32_t sums[kMostPixels * kMostVectors * kWide + kWide];
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t x0 = std::min(tile * pixels, p.out_width - pixels);
        sum(p, rows, x0, weight, p.start + channels.first, sums);
        for (int64_t i = 0; i < pixels; ++i) {
          const auto beside = [&](const View& view) {
            return view.data == nullptr ? nullptr : at<const T>(view, b, y, x0 + i);
          };
          most = finish<T>(p, sums + i * vectors * p.lanes, channels, scale, beside(p.before),
                           beside(p.after), at<T>(p.out, b, y, x0 + i), most);
        }
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
float peak_as(const View& view, int64_t channels, int64_t height, int64_t width, int64_t begin,
              int64_t end) {
  __m512 most = _mm512_setzero_ps();
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t x = 0; x < width; ++x) {
      const T* from = at<const T>(view, row / height, row % height, x);
      for (int64_t c = 0; c < channels; c += kWide) {
        most = larger(most, load(first_lanes(channels - c), from + c));
      }
    }
  }
  return _mm512_reduce_max_ps(most);
}

float peak(DType dtype, const View& view, int64_t channels, int64_t height, int64_t width,
           int64_t begin, int64_t end) {
  return dtype == DType::float32
             ? peak_as<float>(view, channels, height, width, begin, end)
             : peak_as<BFloat16>(view, channels, height, width, begin, end);
}

}  // namespace

const Int8Kernels kVnniKernels = {scratch, convolve, peak};

}  // namespace vfi

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
