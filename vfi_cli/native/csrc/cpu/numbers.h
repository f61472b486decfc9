// bfloat16 and float16 as storage: loads widen, stores round to the nearest.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

// Floats in a register, where the file that includes this says which instructions it may use.
#if !defined(VFI_FLOATS)
#define VFI_FLOATS 4
#endif

namespace vfi {
namespace {

struct BFloat16 {
  uint16_t bits;
};

inline float load(float x) { return x; }
inline double load(double x) { return x; }

inline float load(BFloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline void store(float* to, float x) { *to = x; }
inline void store(double* to, double x) { *to = x; }

inline void store(BFloat16* to, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  to->bits = static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

#if defined(__FLT16_MAX__)
using Half = _Float16;
inline float load(Half x) { return static_cast<float>(x); }
inline void store(Half* to, float x) { *to = static_cast<Half>(x); }
#else
// A compiler without the type: by the fields of the number. 2^112 moves the exponent's bias.
struct Half {
  uint16_t bits;
};
inline float load(Half x) {
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fffu) << 13;
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  float value;
  std::memcpy(&value, &magnitude, sizeof value);
  value *= 0x1p112f;
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  bits |= sign | ((x.bits & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline void store(Half* to, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  bits &= 0x7fffffffu;
  uint32_t half;
  if (bits > 0x7f800000u) {
    half = 0x7e00u;
  } else if (bits >= 0x477ff000u) {  // rounds to infinity
    half = 0x7c00u;
  } else if (bits < 0x38800000u) {  // subnormal: let the adder align and round it
    float shifted;
    std::memcpy(&shifted, &bits, sizeof shifted);
    shifted += 0.5f;
    std::memcpy(&half, &shifted, sizeof half);
    half -= 0x3f000000u;
  } else {
    half = (bits - 0x38000000u + 0xfffu + ((bits >> 13) & 1u)) >> 13;
  }
  to->bits = static_cast<uint16_t>(half | sign);
}
#endif

// Several numbers at once, as GCC and Clang have them for every processor. How they would be
// passed to functions differs between processors; all of these are inlined.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

template <typename T, int count>
using Vector __attribute__((vector_size(count * sizeof(T)))) = T;

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
constexpr bool kLittleEndian = true;
#else
constexpr bool kLittleEndian = false;
#endif

constexpr int kFloats = VFI_FLOATS;

template <typename To, typename From>
inline To load_vector(const From* from) {
  To to;
  std::memcpy(&to, from, sizeof to);
  return to;
}

template <typename Lanes>
constexpr int lanes_of = sizeof(Lanes) / sizeof(Lanes{}[0]);

template <typename Lanes>
inline Lanes load_lanes(const float* from) {
  return load_vector<Lanes>(from);
}
template <typename Lanes>
inline Lanes load_lanes(const double* from) {
  return load_vector<Lanes>(from);
}
// The upper halves of 32-bit numbers, with zeros below.
template <typename Lanes, typename Bits, size_t... lane>
inline Lanes above_zeros(const Bits& bits, std::index_sequence<lane...>) {
  constexpr size_t n = sizeof...(lane) / 2;
  return (Lanes)__builtin_shufflevector(Bits{}, bits, (lane / 2 + lane % 2 * n)...);
}
template <typename Lanes>
inline Lanes load_lanes(const BFloat16* from) {
  constexpr int n = lanes_of<Lanes>;
  using Bits = Vector<uint16_t, n>;
  if constexpr (kFloats < 8 || !kLittleEndian) {
    const auto bits = load_vector<Bits>(from);
    return (Lanes)(__builtin_convertvector(bits, Vector<uint32_t, n>) << 16);
  } else if constexpr (n <= kFloats) {
    // GCC 12 would convert them half a register at a time.
    return above_zeros<Lanes>(load_vector<Bits>(from), std::make_index_sequence<2 * n>());
  } else {
    using Half = Vector<float, n / 2>;
    const Half halves[2] = {load_lanes<Half>(from), load_lanes<Half>(from + n / 2)};
    return load_vector<Lanes>(halves);
  }
}
template <typename Lanes>
inline Lanes load_lanes(const Half* from) {
#if defined(__FLT16_MAX__)
  return __builtin_convertvector(load_vector<Vector<Half, lanes_of<Lanes>>>(from), Lanes);
#else
  Lanes lanes;
  for (int i = 0; i < lanes_of<Lanes>; ++i) lanes[i] = load(from[i]);
  return lanes;
#endif
}

template <typename Lanes>
inline void store_lanes(float* to, const Lanes& lanes) {
  std::memcpy(to, &lanes, sizeof lanes);
}
template <typename Lanes>
inline void store_lanes(double* to, const Lanes& lanes) {
  std::memcpy(to, &lanes, sizeof lanes);
}
template <typename Lanes>
inline Vector<uint16_t, lanes_of<Lanes>> to_bfloat16(const Lanes& lanes) {
  constexpr int n = lanes_of<Lanes>;
  const auto bits = (Vector<uint32_t, n>)lanes;
  const auto rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Vector<uint32_t, n> nan = Vector<uint32_t, n>{} + 0x7fc0u;
  return __builtin_convertvector(lanes == lanes ? rounded : nan, Vector<uint16_t, n>);
}

template <typename Lanes>
inline void store_lanes(BFloat16* to, const Lanes& lanes) {
  const auto narrow = to_bfloat16(lanes);
  std::memcpy(to, &narrow, sizeof narrow);
}
template <typename Lanes>
inline void store_lanes(Half* to, const Lanes& lanes) {
#if defined(__FLT16_MAX__)
  const auto narrow = __builtin_convertvector(lanes, Vector<Half, lanes_of<Lanes>>);
  std::memcpy(to, &narrow, sizeof narrow);
#else
  for (int i = 0; i < lanes_of<Lanes>; ++i) store(to + i, lanes[i]);
#endif
}

// The type that sums and coordinates of T are computed in.
template <typename T>
struct Compute {
  using type = float;
};
template <>
struct Compute<double> {
  using type = double;
};

}  // namespace
}  // namespace vfi
