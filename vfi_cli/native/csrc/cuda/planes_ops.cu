// The operators on planes on CUDA devices.
#include "../planes_operators.h"
#include "launch.cuh"
#include "planes.cuh"

namespace vfi {
namespace {

void run(const Tensor& like, const DecodePlanes& p) { perform(Launch(like), p); }
void run(const Tensor& like, const EncodePlanes& p) { perform(Launch(like), p); }

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(vfi, CUDA, m) { register_plane_operators(m); }

}  // namespace vfi
