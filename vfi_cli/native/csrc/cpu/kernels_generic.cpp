// The kernels for any processor that the compiler was told to write for.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#define VFI_KERNELS kGenericKernels
#define VFI_KERNELS_NAME "generic"
#define VFI_FLOATS 4
#include "kernels_impl.h"
