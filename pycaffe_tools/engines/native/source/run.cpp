// Runs a program on strips of a picture; the interface for Python stands at the end.
#include <algorithm>
#include <cmath>
#include <string>

#include "convolve.h"
#include "lines.h"
#include "processor.h"
#include "read_program.h"
#include "winograd.h"
#include "workspace.h"

namespace {

// A strip of a picture: what is read, and where the result goes.  Distances are in floats.
struct Strip {
    const float* grey;
    ptrdiff_t channel_stride, row_stride;
    int rows, columns;       // of grey values that there are; zeros beyond
    float* out;
    ptrdiff_t out_stride;
    int out_rows, out_columns;
};

void read_input(const Step& step, const Workspace& space, const Strip& strip, int y, int width) {
    const Ring& ring = space.rings[step.map];
    const int there = y < strip.rows ? std::min(width, strip.columns) : 0;
    for (size_t c = 0; c * space.line < ring.row_floats; c++) {
        float* line = ring.row(y) + c * space.line;
        if (there) std::memcpy(line, strip.grey + c * strip.channel_stride + y * strip.row_stride, there * sizeof(float));
        std::fill(line + there, line + space.line, 0.0f);
    }
}

void softmax(const Step& step, const Workspace& space, int y, int width) {
    const float* in = space.rings[step.source].row(y);
    float* out = space.rings[step.map].row(y);
    const int channels = int(space.rings[step.map].row_floats / space.line);
    for (int x = 0; x < width; x++) {
        float most = in[x], sum = 0;
        for (int c = 1; c < channels; c++) most = std::max(most, in[c * space.line + x]);
        for (int c = 0; c < channels; c++) sum += out[c * space.line + x] = std::exp(in[c * space.line + x] - most);
        for (int c = 0; c < channels; c++) out[c * space.line + x] /= sum;
    }
}

void write_output(const Step& step, const Workspace& space, const Strip& strip, int y) {
    const float* in = space.rings[step.source].row(y) + step.channel * space.line;
    float* out = strip.out + y * strip.out_stride;
    if (!step.logistic) std::memcpy(out, in, strip.out_columns * sizeof(float));
    else for (int x = 0; x < strip.out_columns; x++) out[x] = 1.0f / (1.0f + std::exp(-in[x]));
}

// Makes the rows of one step down to `stop`.
void advance(const Step& step, Workspace& space, const Strip& strip, int& made, int stop) {
    const int needed = strip.out_rows + step.rows, whole = (needed + step.granule - 1) / step.granule * step.granule;
    const int width = strip.out_columns + step.columns;
    for (int& y = made; y < std::min(stop, whole); y += step.granule) switch (step.kind) {
        case kInput: read_input(step, space, strip, y, width); break;
        case kDirect: convolve_directly(step, space, y, width); break;
        case kWinograd: convolve_by_winograd(step, space, y, width); break;
        case kLines: work_on_lines(step, space, y); break;
        case kSoftmax: softmax(step, space, y, width); break;
        case kOutput: write_output(step, space, strip, y); break;
    }
}

void run_strip(const Program& program, Workspace& space, const Strip& strip) {
    const std::vector<Step>& steps = program.steps;
    std::vector<int> made(steps.size(), 0);
    for (int top = program.first_band * program.band; top < strip.out_rows; top += program.band)
        for (size_t first = 0, last = 0; first < steps.size(); first = last) {
            while (last < steps.size() && steps[last].turn == steps[first].turn) last++;
            const int pace = last - first == 1 ? program.band : 1;
            for (int bottom = top + pace; bottom <= top + program.band; bottom += pace)
                for (size_t number = first; number < last; number++)
                    advance(steps[number], space, strip, made[number], bottom + steps[number].lead);
        }
}

}  // namespace

#define INTERFACE extern "C" __attribute__((visibility("default")))

// Changes with the meaning of the numbers that native_program reads.
INTERFACE int native_version() { return 1; }

// Whether this processor runs the library for a kind of processors, named as in pycaffe_tools/engines/native/build.py.
INTERFACE int native_runs(const char* kind) {
    bool avx2, avx512;
    processor_has(avx2, avx512);
    const std::string name = kind;
    return name == "plain" || (name == "avx2" && avx2) || (name == "avx512" && avx512);
}

// A program, to be given back with native_free_program; null where the numbers make none.
INTERFACE void* native_program(const int64_t* numbers, int64_t count, const float* values, int64_t values_count) {
    try {
        return new Program(Reader(numbers, count, values, values_count).program());
    } catch (const std::exception&) {
        return nullptr;
    }
}
INTERFACE void native_free_program(void* program) { delete static_cast<Program*>(program); }

// Memory for strips of up to `columns`, for one call at a time; null where there is too little.
INTERFACE void* native_workspace(const void* program, int columns) {
    try {
        return new Workspace(*static_cast<const Program*>(program), columns);
    } catch (const std::exception&) {
        return nullptr;
    }
}
INTERFACE void native_free_workspace(void* workspace) { delete static_cast<Workspace*>(workspace); }

// Computes one strip; 0 if its width is more than the workspace's.
INTERFACE int native_run(const void* program, void* workspace, const float* grey, int64_t channel_stride, int64_t row_stride,
                         int rows, int columns, float* out, int64_t out_stride, int out_rows, int out_columns) {
    Workspace& space = *static_cast<Workspace*>(workspace);
    if (out_columns > space.columns) return 0;
    run_strip(*static_cast<const Program*>(program), space,
              {grey, channel_stride, row_stride, rows, columns, out, out_stride, out_rows, out_columns});
    return 1;
}
