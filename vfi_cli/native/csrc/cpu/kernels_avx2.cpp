// The kernels for processors with AVX2 (Haswell, Zen and later). The headers of the system come before the
// pragma, so that no inline function of theirs is compiled for these instructions.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__x86_64__) && defined(__GNUC__)

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx,avx2,fma,f16c,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx,avx2,fma,f16c,bmi,bmi2")
#endif

#define VFI_KERNELS kAvx2Kernels
#define VFI_KERNELS_NAME "avx2"
#define VFI_FLOATS 8
#include "kernels_impl.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
