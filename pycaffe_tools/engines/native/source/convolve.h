// Convolutions taken directly, with one or two links: the second adds to the sums of the first, as a map's edge variant
// adds to its interior, and each may store what the sums are then.
#pragma once

#include "products.h"
#include "workspace.h"

constexpr int kPoints = 8;      // of Winograd's filtering, see winograd.h
constexpr int kAhead = 8;       // channels between fetching a line and copying it
constexpr int kMostRows = 64, kMostLinks = 2, kMostAddends = 4;

// Pixels of a chunk and of its last tap's window, for many lines that lie close together.
static inline int window_floats(const Link& link) {
    return kChunk + ((link.taps - 1) * link.column_step + kLanes - 1) / kLanes * kLanes;
}

// Lines that are copied for a chunk: not for so few outputs that each would be read but once or twice.
static inline bool is_copied(const Step& step) { return step.outputs > 2 * kOutputs; }

static inline size_t scratch_floats(const Step& step) {
    size_t floats = 0;
    for (const Link& link : step.links)
        floats += size_t(window_floats(link)) * link.channels * (step.kind == kWinograd ? kPoints : link.rows);
    return floats;
}

struct DirectJob {
    struct Part {
        const Link* link;
        const float* rows[kMostRows];
        float* out;
        const float* addends[kMostAddends];
        int addend_count;
        // Where the chunk that is worked on is read.
        const float* lines[kMostRows];
        ptrdiff_t stride;
    };
    Part parts[kMostLinks];
    int count;
    const float* bias;
    ptrdiff_t line;
    float* scratch;     // null: lines are read where they are

    void prepare(int pixel, int pixels) {
        float* next = scratch;
        for (int p = 0; p < count; p++) {
            Part& part = parts[p];
            const Link& link = *part.link;
            const int width = pixels + (link.taps - 1) * link.column_step;
            part.stride = scratch ? window_floats(link) : line;
            for (int r = 0; r < link.rows; r++) {
                part.lines[r] = scratch ? next : part.rows[r] + pixel;
                if (!scratch) continue;
                const float* from = part.rows[r] + pixel;
                for (int c = 0; c < link.channels; c++, from += line, next += part.stride)
                    for (int x = 0; x < width; x += kLanes) {
                        fetch_to_read(from + kAhead * line + x);
                        store(next + x, load(from + x));
                    }
            }
        }
    }

    template <int OUTPUTS, int VECTORS>
    void run(int output, int pixel, int offset) const {
        const ptrdiff_t line = this->line, first = output * line + pixel;
        for (int p = 0; p < count; p++)
            for (int o = 0; o < OUTPUTS; o++)
                for (int i = 0; i < VECTORS; i++) {
                    const ptrdiff_t at = first + o * line + i * kLanes;
                    for (int a = 0; a < parts[p].addend_count; a++) fetch_to_read(parts[p].addends[a] + at);
                    if (parts[p].out) fetch_to_write(parts[p].out + at);
                }
        Block<OUTPUTS, VECTORS> block;
        block.fill(bias + output);
        for (int p = 0; p < count; p++) {
            const Part& part = parts[p];
            const Link& link = *part.link;
            const float* weights = link.weights.data() + size_t(output) * link.rows * link.channels * link.taps;
            for (int r = 0; r < link.rows; r++)
                weights = block.add(part.lines[r] + offset, part.stride, link.channels, link.together, link.taps, link.column_step,
                                    weights);
            if (!part.out) continue;
            const Vector floor = splat(link.rectified ? 0.0f : -__FLT_MAX__);
            float* const out = part.out + first;
            for (int o = 0; o < OUTPUTS; o++)
                for (int i = 0; i < VECTORS; i++) {
                    const ptrdiff_t at = o * line + i * kLanes;
                    Vector value = block.sum[o][i];
                    for (int a = 0; a < part.addend_count; a++) value += load(part.addends[a] + first + at);
                    store(out + at, larger(value, floor));
                }
        }
    }
};

static void convolve_directly(const Step& step, Workspace& space, int row, int width) {
    DirectJob job;
    job.count = int(step.links.size());
    job.bias = step.bias.data();
    job.line = space.line;
    job.scratch = is_copied(step) ? space.scratch : nullptr;
    for (int p = 0; p < job.count; p++) {
        const Link& link = step.links[p];
        DirectJob::Part& part = job.parts[p];
        part.link = &link;
        for (int r = 0; r < link.rows; r++)
            part.rows[r] = space.rings[link.source].row(row + link.first_row + r * link.row_step) + link.first_column;
        part.out = link.out < 0 ? nullptr : space.rings[link.out].row(row);
        part.addend_count = int(link.addends.size());
        for (int a = 0; a < part.addend_count; a++) part.addends[a] = space.rings[link.addends[a]].row(row);
    }
    run_blocks(job, step.outputs, width);
}
