// The operators on planes in terms of what each device has: checks, and what the kernels are told.
// What the arguments mean is documented in plane_ops.py.
#pragma once

#include <vector>

#include "planes.h"
#include "tensors.h"

namespace vfi {
namespace {

using Numbers = std::vector<double>;

// For each device to define; ``like`` is on it.
void run(const Tensor& like, const DecodePlanes& p);
void run(const Tensor& like, const EncodePlanes& p);

inline void set_numbers(const Numbers& from, size_t count, float* to, const char* name) {
  STD_TORCH_CHECK(from.size() == count, name, " must have ", count, " numbers");
  for (size_t i = 0; i < count; ++i) to[i] = static_cast<float>(from[i]);
}

inline Coding make_coding(const Tensors& planes, const Numbers& decode, const Numbers& offsets,
                          const Sizes& chroma) {
  STD_TORCH_CHECK(planes.size() == 1 || planes.size() == 3, "there must be 1 or 3 planes");
  STD_TORCH_CHECK(planes[0].dim() == 2, "planes must be (H, W)");
  STD_TORCH_CHECK(chroma.size() == 4, "chroma must be four numbers");
  Coding c = {};
  c.height = planes[0].size(0);
  c.width = planes[0].size(1);
  c.planes = static_cast<int64_t>(planes.size());
  c.half_x = chroma[0] != 0;
  c.half_y = chroma[1] != 0;
  c.cosited_x = chroma[2] != 0;
  c.cosited_y = chroma[3] != 0;
  const ScalarType type = planes[0].scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Byte || type == ScalarType::UInt16,
                  "planes must be uint8 or uint16");
  c.wide = type == ScalarType::UInt16;
  set_numbers(decode, 3 * planes.size(), c.decode, "decode");
  set_numbers(offsets, planes.size(), c.offsets, "offsets");
  return c;
}

inline void set_planes(const Tensors& planes, const Coding& c, const Tensor& like,
                       Plane (&to)[kMaxPlanes]) {
  STD_TORCH_CHECK(static_cast<int64_t>(planes.size()) == c.planes, "there must be ", c.planes,
                  " planes");
  for (size_t n = 0; n < planes.size(); ++n) {
    const Tensor& plane = planes[n];
    const int64_t height = n > 0 ? chroma_height(c) : c.height;
    const int64_t width = n > 0 ? chroma_width(c) : c.width;
    STD_TORCH_CHECK(plane.dim() == 2 && plane.size(0) == height && plane.size(1) == width,
                    "plane ", n, " must be (", height, ", ", width, ")");
    STD_TORCH_CHECK(plane.stride(1) == 1 || width == 1, "planes must have columns side by side");
    STD_TORCH_CHECK(plane.scalar_type() == like.scalar_type() && plane.device() == like.device(),
                    "planes must be of one dtype and on one device");
    to[n] = {const_cast<void*>(plane.const_data_ptr()), plane.stride(0)};
  }
}

inline Picture make_picture(const Tensor& picture, const Tensor& plane) {
  STD_TORCH_CHECK(picture.dim() == 3 && (picture.size(0) == 1 || picture.size(0) == 3) &&
                      picture.scalar_type() == ScalarType::Float &&
                      picture.device() == plane.device(),
                  "the picture must be (1 or 3, H, W) float32 on the planes' device");
  STD_TORCH_CHECK(picture.stride(2) == 1 || picture.size(2) == 1,
                  "the picture must have its columns side by side");
  return {static_cast<float*>(const_cast<void*>(picture.const_data_ptr())), picture.size(0),
          picture.stride(0), picture.stride(1)};
}

void decode_planes(const Tensors& planes, const Tensor& picture, const Numbers& decode,
                   const Numbers& offsets, const Sizes& chroma, bool limit) {
  DecodePlanes p = {};
  p.coding = make_coding(planes, decode, offsets, chroma);
  set_planes(planes, p.coding, planes[0], p.planes);
  p.picture = make_picture(picture, planes[0]);
  p.picture.data = static_cast<float*>(picture.mutable_data_ptr());
  p.height = picture.size(1);
  p.width = picture.size(2);
  STD_TORCH_CHECK(p.height >= p.coding.height && p.width >= p.coding.width,
                  "the picture is smaller than the planes");
  p.limit = limit;
  if (planes[0].numel() > 0) run(picture, p);
}

void encode_planes(const Tensor& picture, const Tensors& planes, const Numbers& encode,
                   const Numbers& decode, const Numbers& offsets, int64_t peak,
                   const Sizes& chroma, const Tensors& left, const Tensors& right) {
  EncodePlanes p = {};
  p.coding = make_coding(planes, decode, offsets, chroma);
  set_numbers(encode, 3 * planes.size(), p.coding.encode, "encode");
  p.coding.peak = static_cast<float>(peak);
  set_planes(planes, p.coding, planes[0], p.planes);
  for (size_t n = 0; n < planes.size(); ++n) p.planes[n].data = planes[n].mutable_data_ptr();
  p.picture = make_picture(picture, planes[0]);
  STD_TORCH_CHECK(picture.size(0) == 3 && picture.size(1) == p.coding.height &&
                      picture.size(2) == p.coding.width,
                  "the picture must be (3, ", p.coding.height, ", ", p.coding.width, ")");
  p.excess = !left.empty();
  STD_TORCH_CHECK(left.size() == right.size(), "there must be planes on both sides");
  if (p.excess) {
    set_planes(left, p.coding, planes[0], p.left);
    set_planes(right, p.coding, planes[0], p.right);
  }
  if (planes[0].numel() > 0) run(picture, p);
}

inline void register_plane_operators(torch::stable::detail::StableLibrary& m) {
  m.impl("decode_planes", TORCH_BOX(&decode_planes));
  m.impl("encode_planes", TORCH_BOX(&encode_planes));
}

}  // namespace
}  // namespace vfi
