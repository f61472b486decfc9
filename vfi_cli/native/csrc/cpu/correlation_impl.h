// The cost volume of two pictures, and its derivatives. Included by kernels_impl.h.
#pragma once

namespace vfi {
namespace {

constexpr int kLanes = 16;   // pixels of a row that are summed together
constexpr int kShifts = 9;   // displacements along x that share the loads of ``a``

// One strip of pixels against ``shifts`` displacements: the sums stay in registers.
template <int shifts, typename A>
inline void correlate_strip(int64_t channels, const A* a, int64_t a_plane, const A* b,
                            int64_t b_plane, A scale, A (*VFI_RESTRICT sums)[kLanes]) {
  using Lanes = Vector<A, kLanes>;
  Lanes acc[shifts] = {};
  for (int64_t c = 0; c < channels; ++c, a += a_plane, b += b_plane) {
    const Lanes here = load_lanes<Lanes>(a);
#pragma GCC unroll 9
    for (int j = 0; j < shifts; ++j) acc[j] += here * load_lanes<Lanes>(b + j);
  }
#pragma GCC unroll 9
  for (int j = 0; j < shifts; ++j) store_lanes<Lanes>(sums[j], acc[j] * scale);
}

template <typename A>
void correlate_as(const Correlation& p, const A* a, const A* b, A* out, int64_t begin,
                  int64_t end) {
  const int64_t side = 2 * p.radius + 1, plane = p.height * p.width;
  const int64_t padded_width = p.width + 2 * p.radius;
  const int64_t padded_plane = (p.height + 2 * p.radius) * padded_width;
  const A scale = A(1) / static_cast<A>(p.channels);
  A sums[kShifts][kLanes];
  for (int64_t row = begin; row < end; ++row) {
    const int64_t batch = row / p.height, y = row % p.height;
    const A* a_row = a + batch * p.channels * plane + y * p.width;
    const A* b_row = b + batch * p.channels * padded_plane + y * padded_width;
    A* out_row = out + batch * side * side * plane + y * p.width;
    for (int64_t x = 0; x < p.width; x += kLanes) {
      const int64_t n = p.width - x < kLanes ? p.width - x : kLanes;
      for (int64_t dy = 0; dy < side; ++dy) {
        for (int64_t dx = 0; dx < side; dx += kShifts) {
          const int64_t shifts = side - dx < kShifts ? side - dx : kShifts;
          const A* from = b_row + dy * padded_width + x + dx;
          if (shifts == kShifts && n == kLanes) {
            correlate_strip<kShifts>(p.channels, a_row + x, plane, from, padded_plane, scale,
                                     sums);
          } else {
            for (int64_t j = 0; j < shifts; ++j) {
              for (int64_t i = 0; i < n; ++i) sums[j][i] = A(0);
              for (int64_t c = 0; c < p.channels; ++c) {
                const A* a_at = a_row + c * plane + x;
                const A* b_at = from + c * padded_plane + j;
                for (int64_t i = 0; i < n; ++i) sums[j][i] += a_at[i] * b_at[i];
              }
              for (int64_t i = 0; i < n; ++i) sums[j][i] *= scale;
            }
          }
          for (int64_t j = 0; j < shifts; ++j) {
            A* to = out_row + (dy * side + dx + j) * plane + x;
            for (int64_t i = 0; i < n; ++i) to[i] = sums[j][i];
          }
        }
      }
    }
  }
}

template <typename A>
void correlate_grad_as(const Correlation& p, bool second, const A* grad, const A* other, A* out,
                       int64_t begin, int64_t end) {
  const int64_t side = 2 * p.radius + 1, plane = p.height * p.width;
  const A scale = A(1) / static_cast<A>(p.channels);
  for (int64_t index = begin; index < end; ++index) {
    const A* maps = grad + index / p.channels * side * side * plane;
    const A* there = other + index * plane;
    for (int64_t y = 0; y < p.height; ++y) {
      A* VFI_RESTRICT to = out + index * plane + y * p.width;
      for (int64_t x = 0; x < p.width; ++x) to[x] = A(0);
      for (int64_t j = 0; j < side; ++j) {
        // b(x + d) met a(x): the derivative of a looks ahead by d, that of b looks back, at the
        // gradient there.
        const int64_t dy = second ? p.radius - j : j - p.radius;
        if (y + dy < 0 || y + dy >= p.height) continue;
        for (int64_t i = 0; i < side; ++i) {
          const int64_t dx = second ? p.radius - i : i - p.radius;
          const int64_t low = dx < 0 ? -dx : 0;
          const int64_t high = dx > 0 ? p.width - dx : p.width;
          const A* from = there + (y + dy) * p.width + dx;
          const A* map = maps + (j * side + i) * plane +
                         (second ? (y + dy) * p.width + dx : y * p.width);
          for (int64_t x = low; x < high; ++x) to[x] += map[x] * from[x];
        }
      }
      for (int64_t x = 0; x < p.width; ++x) to[x] *= scale;
    }
  }
}

}  // namespace
}  // namespace vfi
