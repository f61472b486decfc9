// Planes of code values, and the picture that they stand for; what it all means is documented in
// plane_ops.py.
#pragma once

#include "stencil.h"

namespace vfi {

constexpr int64_t kMaxPlanes = 3;

// Rows of samples; the stride is in samples.
struct Plane {
  void* data = nullptr;
  int64_t stride = 0;
};

// nominal = decode · (code − offsets) and code = encode · nominal + offsets, both 3 × 3 row by
// row, where ``planes`` is 1 of one column and one row. Planes 1 and 2 may be halved.
struct Coding {
  int64_t height, width;  // of the picture
  int64_t planes;         // 1 or 3
  bool half_x, half_y;        // chroma has half as many columns, rows
  bool cosited_x, cosited_y;  // it lies on a sample of luma, else between two
  bool wide;                  // samples are uint16, else uint8
  float decode[9], encode[9], offsets[kMaxPlanes], peak;
};

// The picture as R'G'B' in float32, its columns side by side.
struct Picture {
  float* data;
  int64_t channels, channel_stride, row_stride;
};

struct DecodePlanes {
  Coding coding;
  Plane planes[kMaxPlanes];
  Picture picture;
  int64_t height, width;  // with what its last column and row are repeated into
  bool limit;             // to [0, 1]
};

struct EncodePlanes {
  Coding coding;
  Picture picture;
  Plane planes[kMaxPlanes];
  bool excess;  // whether to add what lies outside [0, 1] in both of these frames
  Plane left[kMaxPlanes], right[kMaxPlanes];
};

namespace {

VFI_HOST_DEVICE inline int64_t halved(int64_t size) { return (size + 1) / 2; }
VFI_HOST_DEVICE inline int64_t chroma_height(const Coding& c) {
  return c.half_y ? halved(c.height) : c.height;
}
VFI_HOST_DEVICE inline int64_t chroma_width(const Coding& c) {
  return c.half_x ? halved(c.width) : c.width;
}

// A sample at place ``at`` of ``size``, from half as many: middle + share · (next − previous).
struct Spread {
  int64_t previous, middle, next;
  float share;
};

VFI_HOST_DEVICE inline Spread spread_at(int64_t at, int64_t size, bool half, bool cosited) {
  if (!half) return {at, at, at, 0.0f};
  const int64_t middle = at / 2, last = halved(size) - 1;
  Spread spread = {cosited || middle == 0 ? middle : middle - 1, middle,
                   middle < last ? middle + 1 : middle, 0.0f};
  if (cosited) {
    spread.share = at % 2 ? 0.5f : 0.0f;
  } else if (at % 2) {
    spread.share = 0.125f;
  } else if (at + 1 < size) {
    spread.share = -0.125f;
  }  // a last sample without a partner is the chroma value itself
  return spread;
}

// The shares that the samples 2i − 2 … 2i + 2 of ``size`` have in sample i of half as many; of as
// many, the third is sample i.
struct Filter {
  float shares[5] = {0.0f, 0.0f, 1.0f, 0.0f, 0.0f};

  VFI_HOST_DEVICE Filter(int64_t i, int64_t size, bool half, bool cosited) {
    const bool partner = half && 2 * i + 1 < size;
    if (partner && !cosited) shares[2] = shares[3] = 0.5f;
    if (partner && cosited) {
      shares[3] += 0.25f;
      shares[2] -= 0.125f;
      shares[2 * i + 2 < size ? 4 : 2] -= 0.125f;
    }
    if (half && cosited && i > 0) {
      shares[1] += 0.25f;
      shares[0] -= 0.125f;
      shares[2] -= 0.125f;
    }
  }
};

}  // namespace
}  // namespace vfi
