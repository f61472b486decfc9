// A convolution that multiplies 8-bit numbers, and what surrounds it.
#pragma once

#include "stencil.h"

namespace vfi {

// Zero among the quantized inputs, which are unsigned: what is left of it in the sums is taken
// away where they begin (Int8Conv::start).
constexpr int kInt8Zero = 128;
constexpr int kInt8Peak = 127;
constexpr int64_t kInt8MaxKernel = 8;
// What is one for each channel is read in sixteens, so there are more of it than lanes.
constexpr int64_t kInt8Slack = 16;

// A square kernel over channels-last values, float32 or bfloat16. Inputs are divided by the
// largest of their sample and rounded to ±127; sums are exact; what is put out is, for a sum s,
// activated(s·scale·peak/127 + bias + before) + after.
struct Int8Conv {
  int64_t batch, height, width, channels;  // of the input
  int64_t room;                            // its channels, and zeros up to a multiple of 4
  int64_t kernel, stride, padding;
  int64_t out_height, out_width, out_channels;
  View x;
  View before, after;   // like ``out``, or without memory
  View out;             // channels side by side, as everywhere here
  const float* peaks;   // (batch): the largest magnitude of each sample's input
  float* row_peaks;     // (batch, out_height): of each row that is put out

  // Of the channels that are put out, ``vectors`` times ``lanes`` side by side: weights are
  // (vectors, kernel, kernel·room/4, lanes, 4), what the others hold is one for each channel.
  int64_t vectors, lanes;
  const int8_t* weight;
  const int32_t* start;
  const float* scale;
  const float* bias;
  const float* slopes;  // of channels below 0
};

}  // namespace vfi
