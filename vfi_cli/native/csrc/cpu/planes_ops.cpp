// The operators on planes on the CPU.
#include "../planes_operators.h"
#include "kernels.h"
#include "runs.h"

namespace vfi {
namespace {

void run(const Tensor&, const DecodePlanes& p) {
  const Kernels& kernel = kernels();
  in_runs(p.coding.height, kernel.decode_planes_scratch(p),
          [&](int64_t begin, int64_t end, float* memory) {
            kernel.decode_planes(p, begin, end, memory);
          });
}

void run(const Tensor&, const EncodePlanes& p) {
  const Kernels& kernel = kernels();
  const int64_t runs = p.coding.half_y ? halved(p.coding.height) : p.coding.height;
  in_runs(runs, kernel.encode_planes_scratch(p), [&](int64_t begin, int64_t end, float* memory) {
    kernel.encode_planes(p, begin, end, memory);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(vfi, CPU, m) { register_plane_operators(m); }

}  // namespace vfi
