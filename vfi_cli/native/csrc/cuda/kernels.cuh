// The CUDA kernels. One thread works on one pixel, or, where channels lie side by side, on one
// channel of it, so that neighbouring threads read neighbouring memory. Loops stride over the
// grid, with 64-bit indices throughout.
//
// Nothing here knows torch, and no thread works with another: the tests also compile this file
// as plain C++ and run it a thread at a time.
#pragma once

#include "numbers.cuh"

namespace vfi {

// float32 or float64 cost volumes have strides like any tensor; the radius is the displacement.
struct CorrelationShape {
  int64_t batch, channels, height, width, radius;
};

namespace {

// How far apart two neighbours are: not at all along an axis of one pixel, where the second has
// no weight but is read.
__device__ inline int64_t step(int64_t size, int64_t stride) { return size > 1 ? stride : 0; }

template <bool gaussian, typename A>
__device__ inline void find_neighbours(const Sampler& s, const Pixel& p, Neighbours<A>& nx,
                                       Neighbours<A>& ny) {
  const View& f = s.flow;
  const int64_t offset = p.batch * f.batch_stride + p.y * f.y_stride + p.x * f.x_stride;
  const A u = load_as<A>(f.data, s.flow_dtype, offset);
  const A v = load_as<A>(f.data, s.flow_dtype, offset + f.channel_stride);
  nx = neighbours_at<gaussian>(static_cast<A>(p.x) + u, make_axis<A>(s.width, s));
  ny = neighbours_at<gaussian>(static_cast<A>(p.y) + v, make_axis<A>(s.height, s));
}

// out(x) = Σ weight·image(neighbour). ``lanes`` threads share a pixel's channels.
template <typename T, bool gaussian>
__global__ void gather_kernel(Sampler s, View image, View out, int64_t lanes) {
  using A = typename Compute<T>::type;
  const int64_t count = s.batch * s.height * s.width * lanes;
  const int64_t dx = step(s.width, image.x_stride), dy = step(s.height, image.y_stride);
  for (int64_t index = first_index(); index < count; index += index_step()) {
    const Pixel p = pixel_of(index / lanes, s.height, s.width);
    Neighbours<A> nx, ny;
    find_neighbours<gaussian>(s, p, nx, ny);
    for (int64_t c = index % lanes; c < s.channels; c += lanes) {
      const T* top = at<T>(image, p.batch, c, ny.first, nx.first);
      const T* bottom = top + dy;
      const A above = nx.weight0 * load(top[0]) + nx.weight1 * load(top[dx]);
      const A below = nx.weight0 * load(bottom[0]) + nx.weight1 * load(bottom[dx]);
      store(at<T>(out, p.batch, c, p.y, p.x), ny.weight0 * above + ny.weight1 * below);
    }
  }
}

// A weight of 0 stands for a neighbour outside: NaN times 0 must not get in.
template <typename A>
__device__ inline void add_weighted(A* to, A weight, A value) {
  if (weight != A(0)) atomicAdd(to, weight * value);
}

// sums(neighbour) += weight·values(x), and weights(neighbour) += weight where that is given. The
// order of the additions, and with it the last bits of the sums, differs from run to run.
template <typename T, bool gaussian>
__global__ void scatter_kernel(Sampler s, View values, View sums, View weights, int64_t lanes) {
  using A = typename Compute<T>::type;
  const int64_t count = s.batch * s.height * s.width * lanes;
  for (int64_t index = first_index(); index < count; index += index_step()) {
    const Pixel p = pixel_of(index / lanes, s.height, s.width);
    const int64_t lane = index % lanes;
    Neighbours<A> nx, ny;
    find_neighbours<gaussian>(s, p, nx, ny);
    const A w00 = ny.weight0 * nx.weight0, w01 = ny.weight0 * nx.weight1;
    const A w10 = ny.weight1 * nx.weight0, w11 = ny.weight1 * nx.weight1;
    for (int64_t c = lane; c < s.channels; c += lanes) {
      const A value = load(*at<T>(values, p.batch, c, p.y, p.x));
      A* top = at<A>(sums, p.batch, c, ny.first, nx.first);
      const int64_t dx = step(s.width, sums.x_stride);
      A* bottom = top + step(s.height, sums.y_stride);
      add_weighted(top, w00, value);
      add_weighted(top + dx, w01, value);
      add_weighted(bottom, w10, value);
      add_weighted(bottom + dx, w11, value);
    }
    if (weights.data != nullptr && lane == 0) {
      A* top = at<A>(weights, p.batch, 0, ny.first, nx.first);
      const int64_t dx = step(s.width, weights.x_stride);
      A* bottom = top + step(s.height, weights.y_stride);
      add_weighted(top, w00, A(1));
      add_weighted(top + dx, w01, A(1));
      add_weighted(bottom, w10, A(1));
      add_weighted(bottom + dx, w11, A(1));
    }
  }
}

template <typename T, typename A>
__device__ inline void add_slopes(const T* top, int64_t dx, int64_t dy, A value,
                                  const Neighbours<A>& nx, const Neighbours<A>& ny, A& gx,
                                  A& gy) {
  const T* bottom = top + dy;
  const A v00 = load(top[0]), v01 = load(top[dx]);
  const A v10 = load(bottom[0]), v11 = load(bottom[dx]);
  gx += value * (ny.weight0 * (nx.slope0 * v00 + nx.slope1 * v01) +
                 ny.weight1 * (nx.slope0 * v10 + nx.slope1 * v11));
  gy += value * (ny.slope0 * (nx.weight0 * v00 + nx.weight1 * v01) +
                 ny.slope1 * (nx.weight0 * v10 + nx.weight1 * v11));
}

// slope(x) = Σ_c values(x)·∂/∂flow Σ weight·image(neighbour); ``plane``, where it is given, is
// one more channel of the image, whose value is 1.
template <typename T, bool gaussian>
__global__ void flow_slope_kernel(Sampler s, View image, View plane, View values, View slope) {
  using A = typename Compute<T>::type;
  const int64_t count = s.batch * s.height * s.width;
  for (int64_t index = first_index(); index < count; index += index_step()) {
    const Pixel p = pixel_of(index, s.height, s.width);
    Neighbours<A> nx, ny;
    find_neighbours<gaussian>(s, p, nx, ny);
    A gx = A(0), gy = A(0);
    for (int64_t c = 0; c < s.channels; ++c) {
      add_slopes<T, A>(at<T>(image, p.batch, c, ny.first, nx.first),
                       step(s.width, image.x_stride), step(s.height, image.y_stride),
                       load(*at<T>(values, p.batch, c, p.y, p.x)), nx, ny, gx, gy);
    }
    if (plane.data != nullptr) {
      add_slopes<T, A>(at<T>(plane, p.batch, 0, ny.first, nx.first),
                       step(s.width, plane.x_stride), step(s.height, plane.y_stride), A(1), nx,
                       ny, gx, gy);
    }
    *at<A>(slope, p.batch, 0, p.y, p.x) = gx;
    *at<A>(slope, p.batch, 1, p.y, p.x) = gy;
  }
}

// One thread for each value of the cost volume.
template <typename T>
__global__ void correlate_kernel(CorrelationShape shape, View a, View b, View out) {
  using A = typename Compute<T>::type;
  const int64_t side = 2 * shape.radius + 1, plane = shape.height * shape.width;
  const int64_t count = shape.batch * side * side * plane;
  for (int64_t index = first_index(); index < count; index += index_step()) {
    const int64_t map = index / plane % (side * side), batch = index / plane / (side * side);
    const int64_t y = index % plane / shape.width, x = index % shape.width;
    const int64_t there_y = y + map / side - shape.radius;
    const int64_t there_x = x + map % side - shape.radius;
    A sum = A(0);
    if (there_y >= 0 && there_y < shape.height && there_x >= 0 && there_x < shape.width) {
      const T* here = at<T>(a, batch, 0, y, x);
      const T* there = at<T>(b, batch, 0, there_y, there_x);
      for (int64_t c = 0; c < shape.channels; ++c) {
        sum += static_cast<A>(load(here[c * a.channel_stride])) *
               static_cast<A>(load(there[c * b.channel_stride]));
      }
    }
    store(at<T>(out, batch, map, y, x), sum / static_cast<A>(shape.channels));
  }
}

// One thread for each value of the picture: the derivative of ``a`` (``other`` is b) looks ahead
// by each displacement, that of ``b`` (``second``; ``other`` is a) looks back, at the gradient
// there.
template <typename T>
__global__ void correlate_grad_kernel(CorrelationShape shape, bool second, View grad, View other,
                                      View out) {
  using A = typename Compute<T>::type;
  const int64_t side = 2 * shape.radius + 1, plane = shape.height * shape.width;
  const int64_t count = shape.batch * shape.channels * plane;
  for (int64_t index = first_index(); index < count; index += index_step()) {
    const int64_t channel = index / plane % shape.channels;
    const int64_t batch = index / plane / shape.channels;
    const int64_t y = index % plane / shape.width, x = index % shape.width;
    A sum = A(0);
    for (int64_t map = 0; map < side * side; ++map) {
      const int64_t dy = map / side - shape.radius, dx = map % side - shape.radius;
      const int64_t there_y = second ? y - dy : y + dy, there_x = second ? x - dx : x + dx;
      if (there_y < 0 || there_y >= shape.height || there_x < 0 || there_x >= shape.width) {
        continue;
      }
      const T* slope = at<T>(grad, batch, map, second ? there_y : y, second ? there_x : x);
      sum += static_cast<A>(load(*slope)) *
             static_cast<A>(load(*at<T>(other, batch, channel, there_y, there_x)));
    }
    store(at<T>(out, batch, channel, y, x), sum / static_cast<A>(shape.channels));
  }
}

}  // namespace
}  // namespace vfi
