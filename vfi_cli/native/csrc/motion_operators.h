// The operators of inference but for the work itself: checks, new tensors, and what is to be done.
//
// Their arguments come from this package's own networks; what they mean is documented beside the
// functions of motion_ops.py. They work without derivatives on float32 or half precision.
#pragma once

#include <optional>
#include <tuple>
#include <vector>

#include "motion.h"
#include "tensors.h"

namespace vfi {
namespace {

// For each device to define: the dtypes of values that its kernels take, and the work. ``out`` is
// a tensor on the device, part of the problem.

bool takes(DType dtype);
const char* taken();

void run(const Tensor& out, DType dtype, const BlockInput& problem);
void run(const Tensor& out, DType dtype, const FrameBlend& problem);
void run(const Tensor& out, DType dtype, const ReducedFlow& problem);
void run(const Tensor& out, const Fade& problem);
void run(const Tensor& out, DType dtype, const Pack& problem);
void run(const Tensor& out, DType dtype, const Activation& problem);
void run(const Tensor& out, DType dtype, const Untile& problem);
void run(const Tensor& out, DType dtype, const WarpConcat& problem);

// --------------------------------------------------------------------------- checks

DType value_type(const Tensor& tensor, const char* name) {
  const DType dtype = dtype_of(tensor, name);
  STD_TORCH_CHECK(takes(dtype), name, " must be ", taken());
  return dtype;
}

// Operators run where any of their tensors is; they need all of them there.
void check_together(const Tensor& tensor, std::initializer_list<const Tensor*> others) {
  for (const Tensor* other : others) {
    STD_TORCH_CHECK(other->device() == tensor.device(), "everything must be on one device");
  }
}

void check_float(const Tensor& tensor, const char* name) {
  check_picture(tensor, name);
  STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Float, name, " must be float32");
}

void check_sizes(const Tensor& tensor, int64_t batch, int64_t channels, int64_t height,
                 int64_t width, const char* name) {
  STD_TORCH_CHECK((tensor.size(0) == batch || tensor.size(0) == 1) &&
                      tensor.size(1) == channels && tensor.size(2) == height &&
                      tensor.size(3) == width,
                  name, " must be (", batch, " or 1, ", channels, ", ", height, ", ", width, ")");
}

// What is sampled is addressed with 32 bits, two pixels at a time.
void check_sampled(const Tensor& tensor, const char* name) {
  check_channels_last(tensor, name);
  STD_TORCH_CHECK(tensor.size(2) >= 2 && tensor.size(3) >= 2, name, " is too small");
  STD_TORCH_CHECK(tensor.size(1) % 4 == 0, name, " must have a multiple of 4 channels");
  STD_TORCH_CHECK(tensor.size(2) * tensor.stride(2) < std::numeric_limits<int32_t>::max(), name,
                  " is too large");
}

// A view of a tensor that may stand for all of a batch, or for all pixels.
View spread_view(const Tensor& tensor) {
  View view = view_of(tensor);
  if (tensor.size(0) == 1) view.batch_stride = 0;
  if (tensor.size(2) == 1) view.y_stride = 0;
  if (tensor.size(3) == 1) view.x_stride = 0;
  return view;
}

void check_time(const Tensor& time, int64_t batch, int64_t height, int64_t width) {
  check_float(time, "time");
  const bool one = time.size(2) == 1 && time.size(3) == 1;
  check_sizes(time, batch, 1, one ? 1 : height, one ? 1 : width, "time");
}

Step make_step(const Tensor& tiles, int64_t side, int64_t scale, int64_t height, int64_t width) {
  check_channels_last(tiles, "steps");
  STD_TORCH_CHECK(scale >= 1 && scale <= kMaxScale && height % scale == 0 && width % scale == 0,
                  "a step's scale must divide the frames' size, and be 1 to ", kMaxScale);
  const Step step = {view_of(tiles), tiles.size(1) / (side * side), height / scale, width / scale,
                     scale};
  STD_TORCH_CHECK(step.height % side == 0 && step.width % side == 0 &&
                      tiles.size(1) % (side * side) == 0 &&
                      tiles.size(2) == step.height / side + 1 &&
                      tiles.size(3) == step.width / side + 1,
                  "steps must be in tiles of ", side, " by ", side, " points of their grid");
  return step;
}

Motion make_motion(const Tensor& like, const Tensors& steps, const Sizes& scales, int64_t side,
                   bool sum_masks, int64_t batch, int64_t height, int64_t width) {
  STD_TORCH_CHECK(steps.size() == scales.size() && steps.size() <= kMaxSteps,
                  "there must be one scale for each of at most ", kMaxSteps, " steps");
  STD_TORCH_CHECK(side == 2 || side == 4, "tiles are of 2 by 2 or 4 by 4 points");
  Motion motion = {batch, height, width, side, static_cast<int64_t>(steps.size()), sum_masks, {}};
  for (size_t i = 0; i < steps.size(); ++i) {
    check_together(like, {&steps[i]});
    motion.steps[i] = make_step(steps[i], side, scales[i], height, width);
    STD_TORCH_CHECK(steps[i].size(0) == batch && motion.steps[i].channels >= 5,
                    "steps must have the batch of the times, and flow and mask at least");
    STD_TORCH_CHECK(steps[i].scalar_type() == steps[0].scalar_type(),
                    "steps must have one dtype");
  }
  return motion;
}

// The scales of the steps must be multiples of ``part`` times ``scale``, or equal to it.
void check_reduction(const Motion& motion, int64_t scale, int64_t part) {
  STD_TORCH_CHECK(scale == 1 || (scale >= 2 && scale % 2 == 0), "scale must be 1 or even");
  STD_TORCH_CHECK(motion.height % scale == 0 && motion.width % scale == 0,
                  "scale must divide the frames' size");
  for (int64_t i = 0; i < motion.count; ++i) {
    const int64_t own = motion.steps[i].scale;
    STD_TORCH_CHECK(own == scale || own % (scale == 1 ? 1 : part * scale) == 0,
                    "scale must equal or divide those of the steps",
                    part == 2 ? " an even number of times" : "");
  }
}

// --------------------------------------------------------------------------- motion

Tensor motion_input(const Tensor& side0, const Tensor& side1, const Tensors& steps,
                    const Sizes& scales, int64_t side, bool sum_masks, const Tensor& time,
                    int64_t scale, int64_t carried, bool unwarped, int64_t first_row,
                    int64_t rows) {
  check_sampled(side0, "side0");
  check_sampled(side1, "side1");
  check_together(side0, {&side1, &time});
  const DType dtype = value_type(side0, "side0");
  const int64_t batch = time.size(0), height = side0.size(2), width = side0.size(3);
  check_sizes(side0, batch, side0.size(1), height, width, "side0");
  check_sizes(side1, batch, side0.size(1), height, width, "side1");
  BlockInput p;
  p.motion = make_motion(side0, steps, scales, side, sum_masks, batch, height, width);
  // The mask and what is carried are enlarged from grid to grid, not by way of the full size.
  check_reduction(p.motion, scale, 2);
  check_time(time, batch, height / scale, width / scale);
  const int64_t told = steps.empty() ? carried : p.motion.steps[p.motion.count - 1].channels - 5;
  STD_TORCH_CHECK(carried >= 0 && carried <= told, "the last step carries fewer channels");
  STD_TORCH_CHECK(side1.scalar_type() == side0.scalar_type() &&
                      (steps.empty() || steps[0].scalar_type() == side0.scalar_type()),
                  "sides and steps must have one dtype");
  p.side0 = spread_view(side0);
  p.side1 = spread_view(side1);
  p.side_channels = side0.size(1);
  p.scale = scale;
  p.carried = carried;
  p.first_row = first_row;
  p.rows = rows;
  STD_TORCH_CHECK(rows >= 1, "there must be a row at least");
  p.unwarped = unwarped;
  p.time = spread_view(time);
  p.out_channels =
      (unwarped ? 4 : 2) * p.side_channels + 8 + round_up(carried, 8);
  const int64_t sizes[4] = {batch, p.out_channels, rows, width / scale};
  Tensor out = new_sized(side0, sizes, side0.scalar_type(), true);
  p.out = view_of(out);
  run(out, dtype, p);
  return out;
}

std::tuple<Tensor, Tensor> motion_blend(const Tensor& frame0, const Tensor& frame1,
                                        const Tensors& steps, const Sizes& scales, int64_t side,
                                        bool sum_masks, const std::optional<Tensor>& residual,
                                        bool disagreement) {
  for (const Tensor* frame : {&frame0, &frame1}) {
    check_float(*frame, "frames");
    check_sampled(*frame, "frames");
  }
  check_together(frame0, {&frame1});
  STD_TORCH_CHECK(!steps.empty(), "there must be a step at least");
  const int64_t batch = steps[0].size(0), height = frame0.size(2), width = frame0.size(3);
  check_sizes(frame0, batch, 4, height, width, "frame0");
  check_sizes(frame1, batch, 4, height, width, "frame1");
  const DType dtype = value_type(steps[0], "steps");
  FrameBlend p;
  p.motion = make_motion(frame0, steps, scales, side, sum_masks, batch, height, width);
  p.frame0 = spread_view(frame0);
  p.frame1 = spread_view(frame1);
  if (residual.has_value()) {
    check_channels_last(*residual, "residual");
    check_together(frame0, {&*residual});
    STD_TORCH_CHECK(residual->scalar_type() == steps[0].scalar_type(),
                    "residual and steps must have one dtype");
    check_sizes(*residual, batch, 3, height, width, "residual");
    p.residual = spread_view(*residual);
  }
  const int64_t sizes[4] = {batch, 3, height, width};
  Tensor out = new_sized(frame0, sizes, ScalarType::Float, false);
  p.out = view_of(out);
  STD_TORCH_CHECK(!disagreement || (height % kCell == 0 && width % kCell == 0),
                  "disagreement is measured in whole cells");
  const int64_t cell_sizes[4] = {batch, 3, disagreement ? height / kCell : 0,
                                 disagreement ? width / kCell : 0};
  Tensor cells = new_sized(frame0, cell_sizes, ScalarType::Float, false);
  if (disagreement) p.cells = view_of(cells);
  run(out, dtype, p);
  return {out, cells};
}

Tensor motion_flow(const Tensors& steps, const Sizes& scales, int64_t side, int64_t scale) {
  STD_TORCH_CHECK(!steps.empty() && !scales.empty(), "there must be a step at least");
  const Tensor& last = steps.back();
  check_picture(last, "steps");
  STD_TORCH_CHECK(side == 2 || side == 4, "tiles are of 2 by 2 or 4 by 4 points");
  const int64_t batch = last.size(0), height = (last.size(2) - 1) * side * scales.back();
  const int64_t width = (last.size(3) - 1) * side * scales.back();
  ReducedFlow p;
  p.motion = make_motion(last, steps, scales, side, false, batch, height, width);
  check_reduction(p.motion, scale, 1);
  p.scale = scale;
  const DType dtype = value_type(last, "steps");
  const int64_t sizes[4] = {batch, 4, height / scale, width / scale};
  Tensor out = new_sized(last, sizes, ScalarType::Float, false);
  p.out = view_of(out);
  run(out, dtype, p);
  return out;
}

void fade_still(const Tensor& made, const Tensor& frame0, const Tensor& frame1, const Tensor& time,
                const Tensor& share) {
  for (const Tensor* tensor : {&made, &frame0, &frame1, &share}) check_float(*tensor, "pictures");
  check_together(made, {&frame0, &frame1, &time, &share});
  const int64_t batch = made.size(0), height = made.size(2), width = made.size(3);
  for (const Tensor* frame : {&made, &frame0, &frame1}) {
    check_sizes(*frame, batch, 3, height, width, "pictures");
    STD_TORCH_CHECK(frame->stride(3) == 1, "pictures must have their columns side by side");
  }
  check_time(time, batch, height, width);
  STD_TORCH_CHECK(height % kCell == 0 && width % kCell == 0 && share.size(0) == batch, "wrong sizes");
  check_sizes(share, batch, 1, height / kCell, width / kCell, "share");
  if (made.numel() == 0) return;
  Fade p;
  p.share = {batch, height, width, 1, 1, false, {}};
  p.share.steps[0] = {view_of(share), 1, height / kCell, width / kCell, kCell};
  p.made = view_of(made);
  p.made.data = made.mutable_data_ptr();
  p.frame0 = spread_view(frame0);
  p.frame1 = spread_view(frame1);
  p.time = spread_view(time);
  run(made, p);
}

// --------------------------------------------------------------------------- pixels

Tensor pack_picture(const Tensor& picture, const std::optional<Tensor>& features, int64_t side,
                    int64_t channels, ScalarType type) {
  check_float(picture, "picture");
  const int64_t batch = picture.size(0), height = picture.size(2), width = picture.size(3);
  Pack p = {batch, height, width, channels, side, view_of(picture), {}, {}};
  STD_TORCH_CHECK(picture.size(1) == 3 && channels > 3, "a picture has 3 channels of more");
  STD_TORCH_CHECK(side == 2 || side == 4, "tiles are of 2 by 2 or 4 by 4 points");
  if (features.has_value()) {
    check_together(picture, {&*features});
    p.features = make_step(*features, side, 1, height, width);
    STD_TORCH_CHECK(features->size(0) == batch && features->scalar_type() == type &&
                        3 + p.features.channels <= channels,
                    "features must be of the picture, in the result's dtype, and have room");
  }
  const int64_t sizes[4] = {batch, channels, height, width};
  Tensor out = new_sized(picture, sizes, type, true);
  const DType dtype = value_type(out, "the result");
  p.out = view_of(out);
  run(out, dtype, p);
  return out;
}

const float* check_slopes(const Tensor& slopes, const Tensor& like, int64_t channels) {
  check_together(like, {&slopes});
  STD_TORCH_CHECK(slopes.dim() == 1 && slopes.size(0) == channels && slopes.stride(0) == 1 &&
                      slopes.scalar_type() == ScalarType::Float,
                  "slopes must be one float32 for each channel");
  return static_cast<const float*>(slopes.const_data_ptr());
}

// Whether channels lie side by side and pixels one after the other.
bool is_dense_last(const Tensor& x) {
  const int64_t c = x.size(1), h = x.size(2), w = x.size(3);
  return (c == 1 || x.stride(1) == 1) && (w == 1 || x.stride(3) == c) &&
         (h == 1 || x.stride(2) == w * c) && (x.size(0) == 1 || x.stride(0) == h * w * c);
}

void activate(const Tensor& x, const Tensor& slopes, const std::optional<Tensor>& before,
              const std::optional<Tensor>& after) {
  check_picture(x, "x");
  const DType dtype = value_type(x, "x");
  Activation p = {x.size(0) * x.size(2) * x.size(3), x.size(1), x.const_data_ptr(), nullptr,
                  nullptr, check_slopes(slopes, x, x.size(1)), x.mutable_data_ptr()};
  STD_TORCH_CHECK(is_dense_last(x), "x must be channels-last");
  for (const auto* other : {&before, &after}) {
    if (!other->has_value()) continue;
    check_alike(x, **other, "x", "what is added");
    STD_TORCH_CHECK(is_dense_last(**other), "what is added must be channels-last");
    (other == &before ? p.before : p.after) = (*other)->const_data_ptr();
  }
  run(x, dtype, p);
}

Tensor untile(const Tensor& tiles, const Tensor& slopes, int64_t side,
              const std::optional<Tensor>& skip) {
  check_channels_last(tiles, "tiles");
  const DType dtype = value_type(tiles, "tiles");
  STD_TORCH_CHECK(side == 2 || side == 4, "tiles are of 2 by 2 or 4 by 4 points");
  STD_TORCH_CHECK(tiles.size(2) > 1 && tiles.size(3) > 1 && tiles.size(1) % (side * side) == 0,
                  "there must be two tiles at least each way");
  Untile p = {tiles.size(0), (tiles.size(2) - 1) * side, (tiles.size(3) - 1) * side, side,
              tiles.size(1) / (side * side), 0, view_of(tiles), {}, {}, nullptr};
  p.slopes = check_slopes(slopes, tiles, p.channels);
  if (skip.has_value()) {
    check_channels_last(*skip, "skip");
    check_together(tiles, {&*skip});
    STD_TORCH_CHECK(skip->scalar_type() == tiles.scalar_type(), "tiles and skip need one dtype");
    check_sizes(*skip, p.batch, skip->size(1), p.height, p.width, "skip");
    p.skip = spread_view(*skip);
    p.skip_channels = skip->size(1);
  }
  const int64_t sizes[4] = {p.batch, p.channels + p.skip_channels, p.height, p.width};
  Tensor out = new_sized(tiles, sizes, tiles.scalar_type(), true);
  p.out = view_of(out);
  p.out.x_stride = sizes[1];
  run(out, dtype, p);
  return out;
}

Tensor warp_concat(const Tensor& first, const Tensor& features0, const Tensor& features1,
                   const Tensor& flow) {
  check_channels_last(first, "first");
  check_sampled(features0, "features0");
  check_sampled(features1, "features1");
  check_float(flow, "flow");
  check_together(first, {&features0, &features1, &flow});
  const DType dtype = value_type(first, "first");
  WarpConcat p = {flow.size(0), first.size(2), first.size(3), first.size(1), features0.size(1),
                  spread_view(first), spread_view(features0), spread_view(features1),
                  view_of(flow), {}};
  check_sizes(first, p.batch, p.first_channels, p.height, p.width, "first");
  check_sizes(features0, p.batch, p.channels, p.height, p.width, "features0");
  check_sizes(features1, p.batch, p.channels, p.height, p.width, "features1");
  check_sizes(flow, p.batch, 4, p.height, p.width, "flow");
  STD_TORCH_CHECK(flow.stride(3) == 1, "flow must have its columns side by side");
  STD_TORCH_CHECK(features0.scalar_type() == first.scalar_type() &&
                      features1.scalar_type() == first.scalar_type(),
                  "the features must have one dtype");
  const int64_t sizes[4] = {p.batch, p.first_channels + 2 * p.channels, p.height, p.width};
  Tensor out = new_sized(first, sizes, first.scalar_type(), true);
  p.out = view_of(out);
  run(out, dtype, p);
  return out;
}

// ----------------------------------------------------------------------------------

inline void register_motion_operators(torch::stable::detail::StableLibrary& m) {
  m.impl("motion_input", TORCH_BOX(&motion_input));
  m.impl("motion_blend", TORCH_BOX(&motion_blend));
  m.impl("motion_flow", TORCH_BOX(&motion_flow));
  m.impl("fade_still_", TORCH_BOX(&fade_still));
  m.impl("pack_picture", TORCH_BOX(&pack_picture));
  m.impl("activate_", TORCH_BOX(&activate));
  m.impl("untile", TORCH_BOX(&untile));
  m.impl("warp_concat", TORCH_BOX(&warp_concat));
}

}  // namespace
}  // namespace vfi
