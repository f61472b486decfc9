// Planes of code values, and the picture that they stand for; what it all means is documented in
// plane_ops.py.
#pragma once

#include <cstdint>

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

inline int64_t halved(int64_t size) { return (size + 1) / 2; }
inline int64_t chroma_height(const Coding& c) { return c.half_y ? halved(c.height) : c.height; }
inline int64_t chroma_width(const Coding& c) { return c.half_x ? halved(c.width) : c.width; }

}  // namespace
}  // namespace vfi
