// Reads the numbers that pycaffe_tools/engines/native/program.py writes, in its order.
#pragma once

#include <algorithm>
#include <stdexcept>

#include "winograd.h"

class Reader {
public:
    Reader(const int64_t* numbers, int64_t count, const float* values, int64_t values_count)
        : next_(numbers), end_(numbers + count), values_(values), values_count_(values_count) {}

    Program program() {
        Program result{};
        result.band = number(1), result.first_band = number();
        result.columns = number(0);
        result.maps.resize(number(1));
        for (MapShape& map : result.maps) map.channels = number(1), map.ring = number(1);
        maps_ = int(result.maps.size());
        result.steps.resize(number(1));
        for (Step& step : result.steps) {
            read(step);
            result.scratch = std::max(result.scratch, scratch_floats(step));
        }
        if (next_ != end_) throw std::runtime_error("numbers are left over");
        return result;
    }

private:
    const int64_t *next_, *end_;
    const float* values_;
    int64_t values_count_;
    int maps_ = 0;

    int number(int64_t least = INT32_MIN, int64_t most = INT32_MAX) {
        if (next_ == end_ || *next_ < least || *next_ > most) throw std::runtime_error("a number is missing or out of range");
        return int(*next_++);
    }
    int map() { return number(0, maps_ - 1); }
    int map_or_none() { return number(-1, maps_ - 1); }
    const float* values(int64_t count) {
        const int64_t at = number(0);
        if (at + count > values_count_) throw std::runtime_error("values are missing");
        return values_ + at;
    }
    float value() { return *values(1); }

    void read(Step& step) {
        step.kind = Kind(number(kInput, kOutput));
        step.lead = number(0), step.rows = number(0), step.columns = number(0), step.granule = number(1), step.turn = number(0);
        switch (step.kind) {
            case kInput: step.map = map(); break;
            case kDirect:
            case kWinograd: read_convolution(step); break;
            case kLines: read_lines(step); break;
            case kSoftmax: step.source = map(), step.map = map(); break;
            case kOutput: step.source = map(), step.channel = number(0), step.logistic = number(0, 1); break;
        }
    }

    void read_convolution(Step& step) {
        step.outputs = number(1);
        if (step.kind == kWinograd) {
            step.tile = number(1, kMostTile), step.spacing = number(1);
            const float* combine = values(step.tile * kPoints);
            step.combine.assign(combine, combine + step.tile * kPoints);
        }
        const float* bias = values(step.outputs);
        step.bias.assign(bias, bias + step.outputs);
        step.links.resize(number(1, kMostLinks));
        for (Link& link : step.links) {
            link.source = map(), link.channels = number(1);
            link.first_row = number(0), link.rows = number(1, kMostRows), link.row_step = number(1);
            link.first_column = number(0), link.taps = number(1), link.column_step = number(1);
            link.together = summed_together(link.channels, link.taps);
            link.out = map_or_none(), link.rectified = number(0, 1);
            link.addends.resize(number(0, kMostAddends));
            for (int& addend : link.addends) addend = map();
            // Winograd has a kernel for each point, the direct form one for each row.
            const int kernels = step.kind == kWinograd ? kPoints : link.rows;
            const int inner = kernels * link.channels * link.taps;
            link.weights = pack(values(int64_t(step.outputs) * inner), step.outputs, inner);
        }
    }

    void read_lines(Step& step) {
        step.outputs = number(1), step.temporaries = number(0);
        step.operations.resize(number(1));
        for (LineOperation& each : step.operations) {
            each.maximum = number(0, 1);
            for (Operand* operand : {&each.a, &each.b}) {
                operand->map = map_or_none(), operand->temporary = number(-1, step.temporaries - 1);
                operand->row = number(0), operand->column = number(0);
            }
            each.out_map = map_or_none(), each.out_temporary = number(-1, step.temporaries - 1);
            each.factor_a = value(), each.factor_b = value(), each.floor = value();
        }
    }
};
