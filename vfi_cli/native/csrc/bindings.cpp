// The operators' schemas, once for all devices. Their kernels are registered by cpu/ops.cpp and
// cuda/ops.cu, their fake kernels and derivatives beside the public functions in ops.py.
//
// The pictures' semantics are documented there too. The derivatives are operators of their own,
// so that a gradient which nobody asked for is not computed.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(vfi, m) {
  m.def("backwarp(Tensor input, Tensor flow, bool border, bool align_corners) -> Tensor");
  m.def(
      "backwarp_input_grad(Tensor grad, Tensor flow, bool border, bool align_corners, "
      "bool channels_last) -> Tensor");
  m.def(
      "backwarp_flow_grad(Tensor grad, Tensor input, Tensor flow, bool border, "
      "bool align_corners) -> Tensor");

  m.def("splat(Tensor input, Tensor flow, bool gaussian) -> (Tensor, Tensor)");
  m.def("splat_input_grad(Tensor grad, Tensor flow, bool gaussian) -> Tensor");
  m.def(
      "splat_flow_grad(Tensor grad, Tensor weight_grad, Tensor input, Tensor flow, "
      "bool gaussian) -> Tensor");

  m.def("correlation(Tensor a, Tensor b, int max_displacement) -> Tensor");
  m.def(
      "correlation_grad(Tensor grad, Tensor other, int max_displacement, bool second) -> Tensor");

  // Of inference: without derivatives, and not in every dtype. See motion_ops.py.
  m.def(
      "motion_input(Tensor side0, Tensor side1, Tensor[] steps, int[] scales, int side, "
      "bool sum_masks, Tensor time, int scale, int carried, bool unwarped, int first_row, "
      "int rows) -> Tensor");
  m.def(
      "motion_blend(Tensor frame0, Tensor frame1, Tensor[] steps, int[] scales, int side, "
      "bool sum_masks, Tensor? residual, bool disagreement) -> (Tensor, Tensor)");
  m.def("motion_flow(Tensor[] steps, int[] scales, int side, int scale) -> Tensor");
  m.def(
      "fade_still_(Tensor(a!) made, Tensor frame0, Tensor frame1, Tensor time, Tensor share) "
      "-> ()");
  m.def(
      "pack_picture(Tensor picture, Tensor? features, int side, int channels, ScalarType dtype) "
      "-> Tensor");
  m.def("activate_(Tensor(a!) x, Tensor slopes, Tensor? before, Tensor? after) -> ()");
  m.def("untile(Tensor tiles, Tensor slopes, int side, Tensor? skip) -> Tensor");
  m.def(
      "warp_concat(Tensor first, Tensor features0, Tensor features1, Tensor flow) -> Tensor");

  // Convolutions of 8-bit numbers; see int8_ops.py.
  m.def("int8_peak(Tensor x) -> Tensor");
  m.def(
      "conv_int8(Tensor[] inputs, int[] grow, Tensor[] peaks, Tensor[] weights, "
      "Tensor[] starts, Tensor[] scales, Tensor factors, int channels, int stride, int padding, "
      "Tensor? before, Tensor? after) -> (Tensor, Tensor)");

  // Between code values and pictures; see plane_ops.py.
  m.def(
      "decode_planes(Tensor[] planes, Tensor(a!) picture, float[] decode, float[] offsets, "
      "int[] chroma, bool limit) -> ()");
  m.def(
      "encode_planes(Tensor picture, Tensor(a!)[] planes, float[] encode, float[] decode, "
      "float[] offsets, int peak, int[] chroma, Tensor[] left, Tensor[] right) -> ()");
}
