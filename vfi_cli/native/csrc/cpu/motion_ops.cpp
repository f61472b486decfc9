// The operators of inference on the CPU.
#include "../motion_operators.h"

#include "kernels.h"
#include "runs.h"

namespace vfi {
namespace {

bool takes(DType dtype) { return dtype == DType::float32 || dtype == DType::bfloat16; }
const char* taken() { return "float32 or bfloat16"; }

void run(const Tensor&, DType dtype, const BlockInput& p) {
  in_runs(p.motion.batch * p.rows, kernels().block_input_scratch(p),
          [&](int64_t begin, int64_t end, float* memory) {
            kernels().block_input(dtype, p, begin, end, memory);
          });
}

void run(const Tensor&, DType dtype, const FrameBlend& p) {
  in_runs(p.motion.batch * ((p.motion.height + kCell - 1) / kCell),
          kernels().frame_blend_scratch(p), [&](int64_t begin, int64_t end, float* memory) {
            kernels().frame_blend(dtype, p, begin, end, memory);
          });
}

void run(const Tensor&, DType dtype, const ReducedFlow& p) {
  in_runs(p.motion.batch * (p.motion.height / p.scale), kernels().reduced_flow_scratch(p),
          [&](int64_t begin, int64_t end, float* memory) {
            kernels().reduced_flow(dtype, p, begin, end, memory);
          });
}

void run(const Tensor&, const Fade& p) {
  in_runs(p.share.batch * p.share.height, kernels().fade_scratch(p),
          [&](int64_t begin, int64_t end, float* memory) {
            kernels().fade(p, begin, end, memory);
          });
}

void run(const Tensor&, DType dtype, const Pack& p) {
  in_rows(p.batch * p.height, p.width * p.channels, [&](int64_t begin, int64_t end) {
    kernels().pack(dtype, p, begin, end);
  });
}

void run(const Tensor&, DType dtype, const Activation& p) {
  in_rows(p.pixels, p.channels, [&](int64_t begin, int64_t end) {
    kernels().activate(dtype, p, begin, end);
  });
}

void run(const Tensor&, DType dtype, const Untile& p) {
  in_rows(p.batch * p.height, p.width * (p.channels + p.skip_channels),
          [&](int64_t begin, int64_t end) { kernels().untile(dtype, p, begin, end); });
}

void run(const Tensor&, DType dtype, const WarpConcat& p) {
  in_rows(p.batch * p.height, p.width * (p.first_channels + 2 * p.channels),
          [&](int64_t begin, int64_t end) { kernels().warp_concat(dtype, p, begin, end); });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(vfi, CPU, m) { register_motion_operators(m); }

}  // namespace vfi
