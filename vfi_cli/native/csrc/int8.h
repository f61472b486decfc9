// A convolution that multiplies 8-bit numbers, and what surrounds it.
#pragma once

#include "stencil.h"

namespace vfi {

// Zero among the quantized inputs, which are unsigned: what is left of it in the sums is taken
// away where they begin (Int8Input::start).
constexpr int kInt8Zero = 128;
constexpr int kInt8Peak = 127;
constexpr int64_t kInt8MaxKernel = 8;
// What is one for each channel is read in sixteens, so there are more of it than lanes.
constexpr int64_t kInt8Slack = 16;

constexpr int kInt8MaxInputs = 2;

// Channels of what a convolution sees: values float32 or bfloat16, channels-last. They are divided
// by the largest of their sample and rounded to ±127.
struct Int8Input {
  View x;
  int64_t channels;
  int64_t room;        // them and zeros up to a multiple of 4
  bool half;           // of half the size: enlarged bilinearly when they are read
  const float* peaks;  // (batch): the largest magnitude of each sample
  // Of the channels that are put out, Int8Conv::vectors times Int8Conv::lanes side by side: weights
  // are (vectors, kernel, kernel·room/4, lanes, 4), what the others hold is one for each channel.
  const int8_t* weight;
  const int32_t* start;
  const float* scale;
};

// A square kernel over inputs side by side. Sums over each are exact; what is put out is
// activated(Σ sum·scale·peak/127 + bias + before) + after.
struct Int8Conv {
  int64_t batch, height, width;  // of the inputs as they are seen
  int64_t kernel, stride, padding;
  int64_t out_height, out_width, out_channels;
  int64_t count;
  Int8Input inputs[kInt8MaxInputs];
  View before, after;  // like ``out``, or without memory
  View out;            // channels side by side, as everywhere here
  float* row_peaks;    // (batch, out_height): the largest magnitude of each row that is put out
  int64_t vectors, lanes;
  const float* bias;
  const float* slopes;  // of channels below 0
};

}  // namespace vfi
