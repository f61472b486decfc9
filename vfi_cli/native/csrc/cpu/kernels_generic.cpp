// The kernels for any processor that the compiler was told to write for.
#include <cmath>
#include <cstdint>
#include <cstring>

#define VFI_KERNELS kGenericKernels
#define VFI_KERNELS_NAME "generic"
#include "kernels_impl.h"
