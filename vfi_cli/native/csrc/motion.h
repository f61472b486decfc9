// What the fused operators of inference work on: the motion found so far, as a sum of steps.
#pragma once

#include "stencil.h"

namespace vfi {

// What one block of a coarse-to-fine network put out on a grid of height × width that is ``scale``
// times coarser than the frames: flow to frame 0 (u, v) and to frame 1 in pixels of the grid, the
// mask before its sigmoid, and whatever the next block is told besides.
//
// The grid is stored as a transposed convolution of stride 2 makes it when it is computed as a
// convolution of 2 × 2: in tiles of ``side`` × ``side`` points (Motion::side), half a tile off,
// so that the first tile begins at -side/2. (B, side·side·channels, height/side + 1,
// width/side + 1), channels last: row by row through the tile, the channels of a point together.
struct Step {
  View tiles;
  int64_t channels, height, width, scale;
};

constexpr int64_t kMaxSteps = 8;
constexpr int64_t kMaxScale = 128;
constexpr int64_t kCell = 8;  // pixels along a cell's edge, in which disagreement is measured

struct Motion {
  int64_t batch, height, width;  // of the frames
  int64_t side;
  int64_t count;
  bool sum_masks;  // else the last step's mask counts alone
  Step steps[kMaxSteps];
};

// What a block sees at a reduction ``scale`` of the frames: 1, or even. See motion_input in
// motion_ops.py for the order of the channels.
struct BlockInput {
  Motion motion;
  View side0, side1;  // frames and their features, channels side by side
  int64_t side_channels, scale, carried;
  int64_t first_row, rows;  // of the result; those outside of the picture are 0
  bool unwarped;  // whether the frames follow as they are too
  View time;      // float32; its strides may be 0
  View out;
  int64_t out_channels;
};

struct FrameBlend {
  Motion motion;
  View frame0, frame1;  // float32, 4 channels side by side, the last unused
  View residual;        // where it is given: 3 channels side by side, added as 2·sigmoid − 1
  View out;             // float32, (B, 3, H, W)
  View cells;           // where it is given: float32, (B, 3, H/8, W/8); see motion_ops.py
};

// Motion at the pixels of a frame reduced by ``scale``, float32 (B, 4, H/scale, W/scale).
struct ReducedFlow {
  Motion motion;
  int64_t scale;
  View out;
};

// made += share·(frame0 + time·(frame1 − frame0) − made), with the share of cells enlarged.
struct Fade {
  Motion share;  // one step of one channel in tiles of one point
  View made, frame0, frame1, time;
};

// A frame with its channels side by side, what else is known of its pixels, and zeros.
struct Pack {
  int64_t batch, height, width, channels, side;
  View picture;   // float32
  Step features;  // without channels where there are none
  View out;
};

// out = prelu(in + before) + after for runs of channels.
struct Activation {
  int64_t pixels, channels;
  const void* in;
  const void* before;  // or null
  const void* after;   // or null
  const float* slopes;
  void* out;
};

// prelu(tiles), then the channels of ``skip``.
struct Untile {
  int64_t batch, height, width, side, channels, skip_channels;
  View tiles, skip, out;
  const float* slopes;
};

// The channels of ``first``, then those of both features where the flow points.
struct WarpConcat {
  int64_t batch, height, width, first_channels, channels;
  View first, features0, features1, flow, out;
};

namespace {

VFI_HOST_DEVICE inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// The pixel with number ``index`` in the lattice of a reduction: a reduction by an even s reads
// the middle two pixels of each s.
VFI_HOST_DEVICE inline int64_t lattice_pixel(int64_t index, int64_t reduction) {
  return reduction == 1 ? index
                        : index / 2 * reduction + reduction / 2 - 1 + (index & 1);
}

// Where a place of the frames, in pixels from their edge, is in a grid ``scale`` times coarser:
// in points, from the first of them.
VFI_HOST_DEVICE inline float grid_place(float place, int64_t scale) {
  return place / static_cast<float>(scale) - 0.5f;
}

}  // namespace
}  // namespace vfi
