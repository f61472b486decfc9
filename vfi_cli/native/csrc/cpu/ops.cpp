// The operators on the CPU: checks, memory, and how the work is divided among threads.
//
// Nothing depends on the number of threads: where results are added up, each sum belongs to one
// thread, which adds in the order of the pixels.
#include "../operators.h"
#include "kernels.h"
#include "runs.h"

#include <cstdlib>
#include <cstring>

namespace vfi {
namespace {

const Kernels& pick_kernels() {
#if defined(VFI_X86_KERNELS)
  const char* wanted = std::getenv("VFI_CPU_KERNELS");  // for tests and bug reports
  const auto allowed = [wanted](const char* name) {
    return wanted == nullptr || std::strcmp(wanted, name) == 0;
  };
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi") &&
                    __builtin_cpu_supports("bmi2");
  const bool avx512 =
      avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && allowed("avx512")) return kAvx512Kernels;
  if (avx2 && allowed("avx2")) return kAvx2Kernels;
#endif
  return kGenericKernels;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& picked = pick_kernels();
  return picked;
}

namespace {

// A picture whose channels or columns lie side by side, as it is or copied.
Tensor readable(const Tensor& picture) {
  if (is_channels_last(picture) || picture.stride(3) == 1) return picture;
  return to_contiguous(picture);
}

Tensor gather(const Tensor& image, const Sampler& sampler) {
  const Tensor from = readable(image);
  const bool channels_last = is_channels_last(from);
  Tensor out = new_tensor(image, sampler.channels, image.scalar_type(), channels_last);
  if (out.numel() == 0) return out;
  const View from_view = view_of(from), out_view = view_of(out);
  const int64_t extent = (sampler.height - 1) * from_view.y_stride +
                         (sampler.width - 1) * from_view.x_stride +
                         (sampler.channels - 1) * from_view.channel_stride + 1;
  const DType dtype = dtype_of(image, "input");
  in_rows(sampler.batch * sampler.height, sampler.width * sampler.channels,
          [&](int64_t begin, int64_t end) {
            kernels().gather(sampler, dtype, from_view, extent, out_view, begin, end);
          });
  return out;
}

// ``weights`` is given where the weights are to be summed up too.
void scatter(const Tensor& values, const Sampler& sampler, const Tensor& sums,
             const Tensor* weights) {
  if (values.size(0) * values.size(2) * values.size(3) == 0) return;
  // A channel is added up by one thread; channels that a thread has together share the work of
  // finding the neighbours, so there are only as many groups as keep all threads busy.
  const int64_t channels = sampler.channels + (weights != nullptr ? 1 : 0);
  if (channels == 0) return;
  const int64_t threads = torch::stable::get_num_threads();
  int64_t groups = (threads + sampler.batch - 1) / sampler.batch;
  groups = groups < channels ? groups : channels;
  const View value_view = view_of(values), sum_view = view_of(sums);
  const View weight_view = weights != nullptr ? view_of(*weights) : View{};
  const DType dtype = dtype_of(values, "input");
  in_rows(sampler.batch * groups, sampler.height * sampler.width,
          [&](int64_t begin, int64_t end) {
            for (int64_t task = begin; task < end; ++task) {
              const int64_t group = task % groups;
              kernels().scatter(sampler, dtype, value_view, sum_view, weight_view, task / groups,
                                group * channels / groups, (group + 1) * channels / groups);
            }
          });
}

Tensor flow_slope(const Tensor& image, const Tensor* plane, const Tensor& values,
                  const Tensor& flow, const Sampler& sampler) {
  Tensor slope = new_tensor(flow, 2, compute_type(image));
  if (slope.numel() > 0) {
    const DType dtype = dtype_of(image, "input");
    const View image_view = view_of(image), value_view = view_of(values);
    const View plane_view = plane != nullptr ? view_of(*plane) : View{};
    const View slope_view = view_of(slope);
    in_rows(sampler.batch * sampler.height, sampler.width * sampler.channels,
            [&](int64_t begin, int64_t end) {
              kernels().flow_slope(sampler, dtype, image_view, plane_view, value_view, slope_view,
                                   begin, end);
            });
  }
  return to_dtype(slope, flow.scalar_type());
}

// ---------------------------------------------------------------------- correlation

Correlation correlation_of(const Tensor& picture, int64_t radius) {
  return {picture.size(0), picture.size(1), picture.size(2), picture.size(3), radius};
}

Tensor widened(const Tensor& tensor) {
  return to_contiguous(to_dtype(tensor, compute_type(tensor)));
}

Tensor correlation(const Tensor& a, const Tensor& b, int64_t max_displacement) {
  check_correlation(a, b, max_displacement);
  const int64_t side = 2 * max_displacement + 1;
  const Tensor out = new_tensor(a, side * side, compute_type(a));
  if (out.numel() > 0) {
    const Tensor a_wide = widened(a);
    const int64_t margins[4] = {max_displacement, max_displacement, max_displacement,
                                max_displacement};
    const Tensor b_wide = to_contiguous(
        allocated([&] { return torch::stable::pad(widened(b), {margins, 4}); }));
    const Correlation problem = correlation_of(a, max_displacement);
    const DType dtype = dtype_of(out, "a");
    const void* a_data = a_wide.const_data_ptr();
    const void* b_data = b_wide.const_data_ptr();
    void* out_data = out.mutable_data_ptr();
    in_rows(problem.batch * problem.height, problem.width * problem.channels * side * side / 16,
            [&](int64_t begin, int64_t end) {
              kernels().correlate(problem, dtype, a_data, b_data, out_data, begin, end);
            });
  }
  return to_dtype(out, a.scalar_type());
}

Tensor correlation_grad(const Tensor& grad, const Tensor& other, int64_t max_displacement,
                        bool second) {
  check_correlation_grad(grad, other, max_displacement);
  const int64_t side = 2 * max_displacement + 1;
  const Tensor out = new_tensor(other, other.size(1), compute_type(other));
  if (out.numel() > 0) {
    const Tensor grad_wide = widened(grad), other_wide = widened(other);
    const Correlation problem = correlation_of(other, max_displacement);
    const DType dtype = dtype_of(out, "other");
    const void* grad_data = grad_wide.const_data_ptr();
    const void* other_data = other_wide.const_data_ptr();
    void* out_data = out.mutable_data_ptr();
    in_rows(problem.batch * problem.channels, problem.height * problem.width * side * side / 16,
            [&](int64_t begin, int64_t end) {
              kernels().correlate_grad(problem, dtype, second, grad_data, other_data, out_data,
                                       begin, end);
            });
  }
  return to_dtype(out, other.scalar_type());
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(vfi, CPU, m) { register_operators(m); }

}  // namespace vfi

// Which set of kernels runs on this machine; read through ctypes for `vfi doctor`.
extern "C" __attribute__((visibility("default"))) const char* vfi_cpu_kernels() {
  return vfi::kernels().name;
}
