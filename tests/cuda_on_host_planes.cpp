// The operators on planes by the CUDA kernels, run on the CPU: checks and kernels are those of
// csrc/cuda/planes_ops.cu; only how kernels are started is not.
#include "cuda_on_host.h"

#include "planes_operators.h"

#include "cuda/planes.cuh"

namespace vfi {
namespace {

void run(const Tensor&, const DecodePlanes& p) { perform(HostLaunch(), p); }
void run(const Tensor&, const EncodePlanes& p) { perform(HostLaunch(), p); }

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(vfi_planes_on_host, CPU, m) { register_plane_operators(m); }

}  // namespace vfi
