// The convolution of int8.h as an operator; int8_ops.py says what its arguments mean.
#include "int8.h"

#include <algorithm>
#include <optional>
#include <tuple>

#include "../tensors.h"
#include "kernels.h"
#include "runs.h"

namespace vfi {

const Int8Kernels* int8_kernels() {
#if defined(VFI_X86_KERNELS)
  if (&kernels() == &kAvx512Kernels && __builtin_cpu_supports("avx512vnni")) {
    return &kVnniKernels;
  }
#endif
  return nullptr;
}

namespace {

const Int8Kernels& checked_kernels() {
  const Int8Kernels* kernels = int8_kernels();
  STD_TORCH_CHECK(kernels != nullptr, "this processor has no kernels for 8-bit numbers");
  return *kernels;
}

DType value_type(const Tensor& tensor, const char* name) {
  const DType dtype = dtype_of(tensor, name);
  STD_TORCH_CHECK(dtype == DType::float32 || dtype == DType::bfloat16, name,
                  " must be float32 or bfloat16");
  return dtype;
}

// Values with their channels side by side; pixels and rows may be any distance apart.
View values_of(const Tensor& tensor, const char* name) {
  check_channels_last(tensor, name);
  return view_of(tensor);
}

View beside(const std::optional<Tensor>& tensor, const Tensor& out, const char* name) {
  if (!tensor.has_value()) return {};
  check_alike(*tensor, out, name, "the result");
  return values_of(*tensor, name);
}

template <typename T>
const T* column(const Tensor& tensor, ScalarType dtype, int64_t size, const char* name) {
  STD_TORCH_CHECK(tensor.scalar_type() == dtype && tensor.is_contiguous() &&
                      tensor.numel() == size,
                  name, " has another dtype or size");
  return static_cast<const T*>(tensor.const_data_ptr());
}

Tensor new_row(const Tensor& like, int64_t size) {
  const int64_t sizes[1] = {size};
  return new_sized(like, sizes, ScalarType::Float);
}

// The largest of each sample's rows.
Tensor largest(const Tensor& rows, int64_t batch) {
  Tensor out = new_row(rows, batch);
  const int64_t height = batch > 0 ? rows.numel() / batch : 0;
  const float* of_row = static_cast<const float*>(rows.const_data_ptr());
  float* of_sample = static_cast<float*>(out.mutable_data_ptr());
  for (int64_t b = 0; b < batch; ++b, of_row += height) {
    of_sample[b] = height == 0 ? 0 : *std::max_element(of_row, of_row + height);
  }
  return out;
}

Tensor int8_peak(const Tensor& x) {
  const Int8Kernels& kernels = checked_kernels();
  const DType dtype = value_type(x, "x");
  const View view = values_of(x, "x");
  const int64_t batch = x.size(0), height = x.size(2), width = x.size(3);
  const Tensor rows = new_row(x, batch * height);
  float* of_row = static_cast<float*>(rows.mutable_data_ptr());
  torch::stable::parallel_for(0, batch * height, 8, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      of_row[row] = kernels.peak(dtype, view, x.size(1), width, row / height, row % height);
    }
  });
  return largest(rows, batch);
}

Int8Input make_input(const Int8Conv& p, const Tensor& x, int64_t grow, const Tensor& peak,
                     const Tensor& weight, const Tensor& start, const Tensor& scale) {
  Int8Input in;
  in.x = values_of(x, "x");
  in.channels = x.size(1);
  in.room = (in.channels + 3) / 4 * 4;
  STD_TORCH_CHECK(grow == 1 || grow == 2, "inputs grow by 1 or 2");
  in.half = grow == 2;
  STD_TORCH_CHECK(x.size(0) == p.batch && x.size(2) * grow == p.height &&
                      x.size(3) * grow == p.width,
                  "inputs must be of one size");
  STD_TORCH_CHECK(weight.dim() == 5 && weight.size(0) == p.vectors && weight.size(1) == p.kernel &&
                      weight.size(3) == p.lanes && weight.size(4) == 4,
                  "weight must be (vectors, kernel, kernel * room / 4, 8 or 16, 4)");
  STD_TORCH_CHECK(in.channels >= 1 && 4 * weight.size(2) == p.kernel * in.room,
                  "weight is for another number of channels than x has");
  const int64_t columns = p.vectors * p.lanes;
  in.peaks = column<float>(peak, ScalarType::Float, p.batch, "peak");
  in.weight = column<int8_t>(weight, ScalarType::Char, weight.numel(), "weight");
  in.start = column<int32_t>(start, ScalarType::Int, columns, "start");
  in.scale = column<float>(scale, ScalarType::Float, columns + kInt8Slack, "scale");
  return in;
}

std::tuple<Tensor, Tensor> conv_int8(const Tensors& inputs, const Sizes& grow, const Tensors& peaks,
                                     const Tensors& weights, const Tensors& starts,
                                     const Tensors& scales, const Tensor& factors,
                                     int64_t channels, int64_t stride, int64_t padding,
                                     const std::optional<Tensor>& before,
                                     const std::optional<Tensor>& after) {
  const Int8Kernels& kernels = checked_kernels();
  Int8Conv p;
  p.count = static_cast<int64_t>(inputs.size());
  STD_TORCH_CHECK(p.count >= 1 && p.count <= kInt8MaxInputs && grow.size() == inputs.size() &&
                      peaks.size() == inputs.size() && weights.size() == inputs.size() &&
                      starts.size() == inputs.size() && scales.size() == inputs.size(),
                  "there must be 1 or ", kInt8MaxInputs, " inputs, and as many of what is theirs");
  const Tensor& x = inputs[0];
  const DType dtype = value_type(x, "x");
  check_picture(x, "x");
  STD_TORCH_CHECK(weights[0].dim() == 5, "weight must have 5 dimensions");
  p.batch = x.size(0);
  p.height = x.size(2) * grow[0];
  p.width = x.size(3) * grow[0];
  p.vectors = weights[0].size(0);
  p.kernel = weights[0].size(1);
  p.lanes = weights[0].size(3);
  STD_TORCH_CHECK(p.lanes == 8 || p.lanes == 16, "a vector must have 8 or 16 lanes");
  STD_TORCH_CHECK(p.kernel >= 1 && p.kernel <= kInt8MaxKernel, "kernel must be 1 to ",
                  kInt8MaxKernel);
  STD_TORCH_CHECK(stride >= 1 && padding >= 0, "stride must be positive, padding not negative");
  STD_TORCH_CHECK(channels > (p.vectors - 1) * p.lanes && channels <= p.vectors * p.lanes,
                  "weight is for another number of channels than are put out");
  p.stride = stride;
  p.padding = padding;
  p.out_channels = channels;
  p.out_height = (p.height + 2 * padding - p.kernel) / stride + 1;
  p.out_width = (p.width + 2 * padding - p.kernel) / stride + 1;
  STD_TORCH_CHECK(p.height + 2 * padding >= p.kernel && p.width + 2 * padding >= p.kernel,
                  "x is smaller than the kernel");
  for (size_t k = 0; k < inputs.size(); ++k) {
    STD_TORCH_CHECK(value_type(inputs[k], "x") == dtype, "inputs must have one dtype");
    p.inputs[k] = make_input(p, inputs[k], grow[k], peaks[k], weights[k], starts[k], scales[k]);
  }
  const int64_t columns = p.vectors * p.lanes + kInt8Slack;
  p.bias = column<float>(factors, ScalarType::Float, 2 * columns, "factors");
  p.slopes = p.bias + columns;

  const int64_t sizes[4] = {p.batch, channels, p.out_height, p.out_width};
  Tensor out = new_sized(x, sizes, x.scalar_type(), true);
  p.out = view_of(out);
  p.before = beside(before, out, "before");
  p.after = beside(after, out, "after");
  const int64_t rows = p.batch * p.out_height;
  const Tensor row_peaks = new_row(x, rows);
  p.row_peaks = static_cast<float*>(row_peaks.mutable_data_ptr());
  in_runs<uint8_t>(rows, kernels.scratch(p), [&](int64_t begin, int64_t end, uint8_t* memory) {
    kernels.convolve(dtype, p, begin, end, memory);
  });
  return {out, largest(row_peaks, p.batch)};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(vfi, CPU, m) {
  m.impl("int8_peak", TORCH_BOX(&int8_peak));
  m.impl("conv_int8", TORCH_BOX(&conv_int8));
}

}  // namespace vfi

extern "C" __attribute__((visibility("default"))) const char* vfi_int8_kernels() {
  return vfi::int8_kernels() == nullptr ? nullptr : "AVX-512 VNNI";
}
