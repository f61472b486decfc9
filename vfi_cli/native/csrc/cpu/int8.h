// The kernel of int8.h as its operator sees it.
#pragma once

#include "../int8.h"

namespace vfi {

struct Int8Kernels {
  // Bytes of memory that a run of rows needs.
  int64_t (*scratch)(const Int8Conv&);
  // The rows [begin, end) of batch·out_height.
  void (*convolve)(DType, const Int8Conv&, int64_t begin, int64_t end, uint8_t* memory);
  // The largest magnitude of a row of ``x``.
  float (*peak)(DType, const View& x, int64_t channels, int64_t width, int64_t batch, int64_t row);
};

// Those for this machine; null where it cannot multiply 8-bit numbers faster than others.
const Int8Kernels* int8_kernels();

#if defined(__x86_64__) && defined(__GNUC__)
extern const Int8Kernels kVnniKernels;
#endif

}  // namespace vfi
