// The memory in which one strip is computed; reused for strip after strip.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "program.h"
#include "vectors.h"

struct Ring {
    float* lines;
    int rows;
    size_t row_floats;
    float* row(int y) const { return lines + size_t(y % rows) * row_floats; }
};

// Channels whose temporary lines fill a good part of the nearest cache.
static inline int channels_together(const Step& step, size_t line) {
    const size_t fit = 16 * 1024 / (sizeof(float) * line * std::max(1, step.temporaries));
    return int(std::min<size_t>(std::max<size_t>(1, fit), step.outputs));
}

class Workspace {
public:
    size_t line;                 // floats from one line to the next
    int columns;                 // widest strip
    std::vector<Ring> rings;
    float *temporaries, *scratch;

    Workspace(const Program& program, int columns_) : line(line_floats(program, columns_)), columns(columns_) {
        size_t total = 0;
        for (const MapShape& map : program.maps) total += line * map.channels * map.ring;
        size_t temporary = 0;
        for (const Step& step : program.steps)
            temporary = std::max(temporary, line * (step.temporaries * channels_together(step, line) + 1));
        total += temporary + program.scratch;
        memory_ = zeros(total * sizeof(float));
        float* next = memory_;
        for (const MapShape& map : program.maps) {
            rings.push_back({next, map.ring, line * map.channels});
            next += line * map.channels * map.ring;
        }
        temporaries = next;
        scratch = next + temporary;
    }
    ~Workspace() { std::free(memory_); }
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;

private:
    float* memory_;

    // The rows in use lie far apart, in more small pages than a processor keeps the places of; so large ones are asked for.
    static float* zeros(size_t bytes) {
        constexpr size_t page = size_t(1) << 21;
        void* memory = nullptr;
        if (posix_memalign(&memory, bytes < page ? 64 : page, bytes)) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
        if (bytes >= page) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
        std::memset(memory, 0, bytes);
        return static_cast<float*>(memory);
    }

    // The last block of vectors may begin anywhere and read on.  Lines whose distance is a multiple of 256 bytes
    // would meet in the same few sets of the cache.
    static size_t line_floats(const Program& program, int columns) {
        size_t floats = (columns + program.columns + 2 * kLanes + 15) / 16 * 16;
        return floats % 64 ? floats : floats + 16;
    }
};
