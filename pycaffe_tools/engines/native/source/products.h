// The inner loop of all convolutions: a block of outputs by a few vectors of pixels, held in registers, to which
// weights times shifted pixels are added.  No channel and no border is padded; vectors run over pixels.
#pragma once

#include <cstdint>
#include <vector>

#include "vectors.h"

// A block's sums, the pixels and a weight fill the registers: 5 x 4 + 4 + 1 of 32.  Of 16, GCC makes do with
// 4 x 3 + 3 + 1, where Clang needs one to spare.
#if defined(__clang__)
constexpr bool kSpare = true;
#else
constexpr bool kSpare = false;
#endif
constexpr int kOutputs = kRegisters == 32 ? 5 : kSpare ? 6 : 4;
constexpr int kVectors = kRegisters == 32 ? 4 : kSpare ? 2 : 3;

// `total` divided into parts of at most `most`, as equal as can be.
struct Parts {
    int total, count;
    Parts(int total_, int most) : total(total_), count((total_ + most - 1) / most) {}
    int begin(int part) const { return int(int64_t(total) * part / count); }
    int size(int part) const { return begin(part + 1) - begin(part); }
};

// Channels whose products, some hundred, are summed up by themselves.
static inline int summed_together(int channels, int taps) {
    constexpr int products = 128;
    const int sums = (channels * taps + products - 1) / products;
    return (channels + sums - 1) / sums;
}

template <int OUTPUTS, int VECTORS>
struct Block {
    Vector sum[OUTPUTS][VECTORS];

    INLINE void fill(const float* bias) {
        for (int o = 0; o < OUTPUTS; o++)
            for (int i = 0; i < VECTORS; i++) sum[o][i] = bias ? splat(bias[o]) : Vector{};
    }

    // Adds the products of `channels` lines, `stride` floats apart, and `taps` pixels of each, `step` apart.
    // Sums over `together` channels are added up by themselves: a sum of sums rounds less than one long one.
    INLINE const float* add(const float* pixels, ptrdiff_t stride, int channels, int together, int taps, ptrdiff_t step,
                            const float* weights) {
        const bool single = taps == 1;      // then one loop instead of two
        const ptrdiff_t to_next = single ? stride : step;
        for (int first = 0; first < channels; first += together) {
            const int count = channels - first < together ? channels - first : together;
            const int outer = single ? 1 : count, inner = single ? count : taps;
            // Used nowhere else, so that compilers keep it in registers.
            Vector total[OUTPUTS][VECTORS] = {};
            const float* line = pixels + first * stride;
            for (int c = 0; c < outer; c++, line += stride)
                for (int k = 0; k < inner; k++, weights += OUTPUTS) {
                    Vector x[VECTORS];
                    for (int i = 0; i < VECTORS; i++) x[i] = load(line + k * to_next + i * kLanes);
                    for (int o = 0; o < OUTPUTS; o++) {
                        const Vector w = splat(weights[o]);
                        for (int i = 0; i < VECTORS; i++) total[o][i] += x[i] * w;
                    }
                }
            for (int o = 0; o < OUTPUTS; o++)
                for (int i = 0; i < VECTORS; i++) sum[o][i] += total[o][i];
        }
        return weights;
    }
};

// Pixels that are made ready together: whole blocks, 64 or a few more.
constexpr int kBlock = kVectors * kLanes, kChunk = (64 + kBlock - 1) / kBlock * kBlock;

// Calls job.run<OUTPUTS, VECTORS>(first output, first pixel of the row, first pixel of the chunk).
template <int OUTPUTS, int VECTORS, class Job>
static void run_block(const Job& job, int outputs, int vectors, int output, int pixel, int offset) {
    if (outputs < OUTPUTS) {
        if constexpr (OUTPUTS > 1) run_block<OUTPUTS - 1, VECTORS>(job, outputs, vectors, output, pixel, offset);
    } else if (vectors < VECTORS) {
        if constexpr (VECTORS > 1) run_block<OUTPUTS, VECTORS - 1>(job, outputs, vectors, output, pixel, offset);
    } else {
        job.template run<OUTPUTS, VECTORS>(output, pixel, offset);
    }
}

// Covers all outputs and `width` pixels with blocks.  The row is cut into chunks, for each of which
// job.prepare(first pixel, pixels) brings what all outputs read into the nearer caches; then the weights of a block of
// outputs meet all pixels of the chunk.
template <class Job>
static void run_blocks(Job& job, int outputs, int width) {
    const Parts chunks((width + kLanes - 1) / kLanes, kChunk / kLanes), down(outputs, kOutputs);
    for (int chunk = 0; chunk < chunks.count; chunk++) {
        const int first = chunks.begin(chunk) * kLanes;
        const Parts across(chunks.size(chunk), kVectors);
        job.prepare(first, chunks.size(chunk) * kLanes);
        for (int o = 0; o < down.count; o++)
            for (int i = 0; i < across.count; i++) {
                const int offset = across.begin(i) * kLanes;
                run_block<kOutputs, kVectors>(job, down.size(o), across.size(i), down.begin(o), first + offset, offset);
            }
    }
}

// Weights, outputs x inner, in the order in which run_blocks wants them: block by block, a block's outputs innermost.
static inline std::vector<float> pack(const float* weights, int outputs, int inner) {
    std::vector<float> packed;
    packed.reserve(size_t(outputs) * inner);
    const Parts down(outputs, kOutputs);
    for (int b = 0; b < down.count; b++)
        for (int n = 0; n < inner; n++)
            for (int o = 0; o < down.size(b); o++) packed.push_back(weights[size_t(down.begin(b) + o) * inner + n]);
    return packed;
}
