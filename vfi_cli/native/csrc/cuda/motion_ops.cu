// The operators of inference on CUDA devices.
#include "../motion_operators.h"

#include "launch.cuh"
#include "motion.cuh"
#include "pixels.cuh"

namespace vfi {
namespace {

bool takes(DType dtype) { return dtype != DType::float64; }
const char* taken() { return "float32, bfloat16 or float16"; }

void run(const Tensor& out, DType dtype, const BlockInput& p) { perform(Launch(out), dtype, p); }
void run(const Tensor& out, DType dtype, const FrameBlend& p) { perform(Launch(out), dtype, p); }
void run(const Tensor& out, DType dtype, const ReducedFlow& p) { perform(Launch(out), dtype, p); }
void run(const Tensor& out, const Fade& p) { perform(Launch(out), p); }
void run(const Tensor& out, DType dtype, const Pack& p) { perform(Launch(out), dtype, p); }
void run(const Tensor& out, DType dtype, const Activation& p) { perform(Launch(out), dtype, p); }
void run(const Tensor& out, DType dtype, const Untile& p) { perform(Launch(out), dtype, p); }
void run(const Tensor& out, DType dtype, const WarpConcat& p) { perform(Launch(out), dtype, p); }

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(vfi, CUDA, m) { register_motion_operators(m); }

}  // namespace vfi
