// The fused operators by the CUDA kernels, run on the CPU: checks, new tensors and kernels are
// those of csrc/cuda/motion_ops.cu; only how kernels are started is not.
#include "cuda_on_host.h"

#include "motion_operators.h"

#include "cuda/motion.cuh"
#include "cuda/pixels.cuh"

namespace vfi {
namespace {

bool takes(DType dtype) { return dtype != DType::float64; }
const char* taken() { return "float32, bfloat16 or float16"; }

void run(const Tensor&, DType dtype, const BlockInput& p) { perform(HostLaunch(), dtype, p); }
void run(const Tensor&, DType dtype, const FrameBlend& p) { perform(HostLaunch(), dtype, p); }
void run(const Tensor&, DType dtype, const ReducedFlow& p) { perform(HostLaunch(), dtype, p); }
void run(const Tensor&, const Fade& p) { perform(HostLaunch(), p); }
void run(const Tensor&, DType dtype, const Pack& p) { perform(HostLaunch(), dtype, p); }
void run(const Tensor&, DType dtype, const Activation& p) { perform(HostLaunch(), dtype, p); }
void run(const Tensor&, DType dtype, const Untile& p) { perform(HostLaunch(), dtype, p); }
void run(const Tensor&, DType dtype, const WarpConcat& p) { perform(HostLaunch(), dtype, p); }

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(vfi_on_host, CPU, m) { register_motion_operators(m); }

}  // namespace vfi
