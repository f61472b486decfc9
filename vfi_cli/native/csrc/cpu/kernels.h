// The kernels as the operators see them: plain functions over raw memory, one set for each
// instruction set, picked when the process starts.
#pragma once

#include "../motion.h"
#include "../planes.h"
#include "../stencil.h"

namespace vfi {

struct Correlation {
  int64_t batch, channels, height, width, radius;
};

struct Kernels {
  const char* name;

  // out(x) = Σ weight·image(neighbour), for the rows [begin, end) of batch·height. The image has
  // unit stride along x or along the channels, ``out`` is dense in the same way. ``extent`` is
  // how many elements may be read from the first of a batch's image.
  void (*gather)(const Sampler&, DType, const View& image, int64_t extent, const View& out,
                 int64_t begin, int64_t end);

  // sums(neighbour) += weight·values(x), for the channels [first, last) of one batch, in the
  // order of the pixels. Channel number ``channels`` is the sum of the weights themselves and
  // goes to ``weights``. Sums are float32, or float64 for float64 values.
  void (*scatter)(const Sampler&, DType, const View& values, const View& sums,
                  const View& weights, int64_t batch, int64_t first, int64_t last);

  // slope(x) = Σ_c values(x)·∂/∂flow Σ weight·image(neighbour), for the rows [begin, end). Where
  // ``plane`` (B, 1, H, W) is given it is one more channel of the image, whose value is 1.
  void (*flow_slope)(const Sampler&, DType, const View& image, const View& plane,
                     const View& values, const View& slope, int64_t begin, int64_t end);

  // The rows [begin, end) of batch·height of the cost volume of contiguous ``a`` and ``b``, where
  // ``b`` is padded by the radius on all sides. float32 or float64.
  void (*correlate)(const Correlation&, DType, const void* a, const void* b, void* out,
                    int64_t begin, int64_t end);

  // The derivative with respect to ``a`` (``second`` false; ``other`` is b) or ``b`` (true;
  // ``other`` is a), for the planes [begin, end) of batch·channels; everything contiguous.
  // float32 or float64.
  void (*correlate_grad)(const Correlation&, DType, bool second, const void* grad,
                         const void* other, void* out, int64_t begin, int64_t end);

  // The operators of inference; the values are float32 or bfloat16. Those that read motion want
  // as many floats of memory as they say. [begin, end) are rows of batch·height, of cells for
  // frame_blend, or pixels for activate.
  int64_t (*block_input_scratch)(const BlockInput&);
  void (*block_input)(DType, const BlockInput&, int64_t begin, int64_t end, float* memory);
  int64_t (*frame_blend_scratch)(const FrameBlend&);
  void (*frame_blend)(DType, const FrameBlend&, int64_t begin, int64_t end, float* memory);
  int64_t (*reduced_flow_scratch)(const ReducedFlow&);
  void (*reduced_flow)(DType, const ReducedFlow&, int64_t begin, int64_t end, float* memory);
  int64_t (*fade_scratch)(const Fade&);
  void (*fade)(const Fade&, int64_t begin, int64_t end, float* memory);
  void (*pack)(DType, const Pack&, int64_t begin, int64_t end);
  void (*activate)(DType, const Activation&, int64_t begin, int64_t end);
  void (*untile)(DType, const Untile&, int64_t begin, int64_t end);
  void (*warp_concat)(DType, const WarpConcat&, int64_t begin, int64_t end);

  // Planes to a picture, by its rows, and back, by the rows of chroma.
  int64_t (*decode_planes_scratch)(const DecodePlanes&);
  void (*decode_planes)(const DecodePlanes&, int64_t begin, int64_t end, float* memory);
  int64_t (*encode_planes_scratch)(const EncodePlanes&);
  void (*encode_planes)(const EncodePlanes&, int64_t begin, int64_t end, float* memory);
};

// Those for this machine.
const Kernels& kernels();

extern const Kernels kGenericKernels;
#if defined(__x86_64__) && defined(__GNUC__)
#define VFI_X86_KERNELS 1
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

}  // namespace vfi
