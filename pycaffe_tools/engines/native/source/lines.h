// Everything that is done pixel by pixel: poolings, differences and sums of maps.  A step works through short lists of
// operations on lines of a few channels, so that what is between its inputs and outputs stays in the nearest cache.
#pragma once

#include "workspace.h"

// Whole lines are worked on, with what is between them, as one: channels lie one behind the other.
static void largest(const float* a, const float* b, float* out, ptrdiff_t floats, float floor_) {
    const Vector floor = splat(floor_);
#pragma GCC unroll 4
    for (ptrdiff_t x = 0; x < floats; x += kLanes) store(out + x, larger(larger(load(a + x), load(b + x)), floor));
}

static void weighted_sum(const float* a, const float* b, float* out, ptrdiff_t floats, float factor_a, float factor_b) {
    const Vector fa = splat(factor_a), fb = splat(factor_b);
#pragma GCC unroll 4
    for (ptrdiff_t x = 0; x < floats; x += kLanes) store(out + x, load(a + x) * fa + load(b + x) * fb);
}

static void work_on_lines(const Step& step, Workspace& space, int row) {
    const ptrdiff_t line = space.line;
    const int together = channels_together(step, line);
    const bool far_apart = step.outputs * line * sizeof(float) > 48 * 1024;    // rows do not stay in the nearest cache
    for (int channel = 0; channel < step.outputs; channel += together) {
        const auto place = [&](int map, int temporary, int down, int across) {
            return across + (map < 0 ? space.temporaries + temporary * together * line
                                     : space.rings[map].row(row + down) + channel * line);
        };
        const ptrdiff_t floats = std::min(together, step.outputs - channel) * line;
        for (const LineOperation& each : step.operations) {
            const float* a = place(each.a.map, each.a.temporary, each.a.row, each.a.column);
            const float* b = place(each.b.map, each.b.temporary, each.b.row, each.b.column);
            float* out = place(each.out_map, each.out_temporary, 0, 0);
            if (far_apart && each.out_map >= 0)
                for (ptrdiff_t x = 0; x < floats; x += 16) fetch_to_write(out + floats + x);
            if (each.maximum) largest(a, b, out, floats, each.floor);
            else weighted_sum(a, b, out, floats, each.factor_a, each.factor_b);
        }
    }
}
