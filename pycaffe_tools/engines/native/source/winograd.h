// Convolutions by Winograd's minimal filtering along the rows, F(tile, kernel rows) with tile + rows - 1 = 8 products:
// eight rows of input become eight sums, each multiplied by its own weights, and the products are summed to `tile` rows
// of output.  The matrices stand in pycaffe_tools/engines/native/winograd.py.
#pragma once

#include "convolve.h"

constexpr int kMostTile = kPoints;

// The sums of rows r of input for the points 1, 0, 2, -2, 1/2, -1/2, infinity and -1.
static INLINE void transform(const Vector* r, Vector* t) {
    const Vector even1 = r[6] - 4.25f * r[4] + r[2], odd1 = r[5] - 4.25f * r[3] + r[1];
    const Vector even2 = r[6] - 1.25f * r[4] + 0.25f * r[2], odd2 = 2.0f * r[5] - 2.5f * r[3] + 0.5f * r[1];
    const Vector even3 = r[6] - 5.0f * r[4] + 4.0f * r[2], odd3 = 0.5f * r[5] - 2.5f * r[3] + 2.0f * r[1];
    t[0] = even1 + odd1;
    t[1] = r[6] - r[0] + 5.25f * (r[2] - r[4]);
    t[2] = even2 + odd2;
    t[3] = even2 - odd2;
    t[4] = even3 + odd3;
    t[5] = even3 - odd3;
    t[6] = r[7] - r[1] + 5.25f * (r[3] - r[5]);
    t[7] = even1 - odd1;
}

// `rows`: eight of the input; `out`: for each point `channels` lines.
static void transform_lines(const float* const* rows, ptrdiff_t line, float* out, ptrdiff_t stride, int channels, int width) {
    for (int c = 0; c < channels; c++)
        for (ptrdiff_t x = 0; x < width; x += kLanes) {
            Vector r[kPoints], t[kPoints];
            for (int i = 0; i < kPoints; i++) {
                fetch_to_read(rows[i] + (c + kAhead / 2) * line + x);
                r[i] = load(rows[i] + c * line + x);
            }
            transform(r, t);
            for (int i = 0; i < kPoints; i++) store(out + (i * channels + c) * stride + x, t[i]);
        }
}

struct WinogradJob {
    struct Part {
        const Link* link;
        const float* rows[kPoints];
        float* out[kMostTile];
        float* transformed;
        ptrdiff_t stride;
    };
    Part parts[kMostLinks];
    const Step* step;
    ptrdiff_t line;
    float* scratch;

    void prepare(int pixel, int pixels) {
        float* next = scratch;
        for (size_t p = 0; p < step->links.size(); p++) {
            Part& part = parts[p];
            const Link& link = *part.link;
            const float* rows[kPoints];
            for (int i = 0; i < kPoints; i++) rows[i] = part.rows[i] + pixel;
            part.transformed = next, part.stride = window_floats(link);
            const int width = pixels + (link.taps - 1) * link.column_step;
            transform_lines(rows, line, next, part.stride, link.channels, width);
            next += part.stride * link.channels * kPoints;
        }
    }

    template <int OUTPUTS, int VECTORS>
    void run(int output, int pixel, int offset) const {
        const int tile = step->tile, count = int(step->links.size());
        const ptrdiff_t line = this->line, first = output * line + pixel;
        Vector sums[kMostLinks][kMostTile][OUTPUTS][VECTORS];       // stays in the nearest cache
        for (int j = 0; j < kPoints; j++) {
            Block<OUTPUTS, VECTORS> block;
            block.fill(nullptr);
            for (int p = 0; p < count; p++) {
                const Part& part = parts[p];
                const int channels = part.link->channels, taps = part.link->taps;
                block.add(part.transformed + j * channels * part.stride + offset, part.stride, channels, part.link->together,
                          taps, part.link->column_step, part.link->weights.data() + size_t(output * kPoints + j * OUTPUTS) * channels * taps);
                if (part.link->out < 0) continue;
                for (int r = 0; r < tile; r++) {
                    const Vector factor = splat(step->combine[r * kPoints + j]);
                    for (int o = 0; o < OUTPUTS; o++)
                        for (int i = 0; i < VECTORS; i++) {
                            Vector& sum = sums[p][r][o][i];
                            sum = (j ? sum : splat(step->bias[output + o])) + block.sum[o][i] * factor;
                        }
                }
            }
        }
        for (int p = 0; p < count; p++) {
            if (parts[p].link->out < 0) continue;
            const Vector floor = splat(parts[p].link->rectified ? 0.0f : -__FLT_MAX__);
            for (int r = 0; r < tile; r++) {
                float* const out = parts[p].out[r] + first;
                for (int o = 0; o < OUTPUTS; o++)
                    for (int i = 0; i < VECTORS; i++) store(out + o * line + i * kLanes, larger(sums[p][r][o][i], floor));
            }
        }
    }
};

static void convolve_by_winograd(const Step& step, Workspace& space, int row, int width) {
    for (int phase = 0; phase < step.spacing; phase++) {
        WinogradJob job;
        job.step = &step;
        job.line = space.line;
        job.scratch = space.scratch;
        for (size_t p = 0; p < step.links.size(); p++) {
            const Link& link = step.links[p];
            WinogradJob::Part& part = job.parts[p];
            part.link = &link;
            for (int i = 0; i < kPoints; i++)
                part.rows[i] = space.rings[link.source].row(row + phase + link.first_row + i * step.spacing) + link.first_column;
            for (int r = 0; r < step.tile && link.out >= 0; r++)
                part.out[r] = space.rings[link.out].row(row + phase + r * step.spacing);
        }
        run_blocks(job, step.outputs, width);
    }
}
