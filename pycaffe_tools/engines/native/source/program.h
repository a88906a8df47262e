// What a net's program is made of.  pycaffe_tools/engines/native/program.py writes it, run.cpp carries it out.
//
// A program computes a strip of output, `columns` wide, from top to bottom, a band of rows at a time.  Each map keeps
// only its latest rows, in a ring; a row holds one line of pixels for each channel.  A step makes the rows of its maps
// up to `lead` rows below the band, so that later steps find below them what they read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

struct MapShape {
    int channels, ring;  // ring: rows kept
};

enum Kind { kInput, kDirect, kWinograd, kLines, kSoftmax, kOutput };

// A map's rows and columns that a convolution reads, and the weights for them.
struct Link {
    int source, channels, together;          // together: see summed_together in products.h
    int first_row, rows, row_step;           // relative to the output's row
    int first_column, taps, column_step;     // relative to the output's column
    int out;                                 // map that receives the sum so far, -1: none
    bool rectified;
    std::vector<int> addends;                // maps added before it is stored
    std::vector<float> weights;              // packed, see pack() in products.h
};

// One operation on lines of pixels: out = max(a, b, floor), or out = factor_a a + factor_b b.
struct Operand {
    int map, temporary;                      // one of them is -1
    int row, column;                         // relative to the output's
};
struct LineOperation {
    bool maximum;
    Operand a, b;
    int out_map, out_temporary;              // one of them is -1
    float factor_a, factor_b, floor;
};

struct Step {
    Kind kind;
    int lead;                                // rows made below the band
    int rows, columns;                       // needed beyond the strip's own
    int granule;                             // rows that are made together
    int turn;                                // steps of the same number take turns, a row at a time
    // kDirect, kWinograd
    int outputs;
    std::vector<float> bias;
    std::vector<Link> links;
    // kWinograd
    int tile, spacing;
    std::vector<float> combine;              // tile x 8: sums of products to rows of output
    // kLines
    int temporaries;
    std::vector<LineOperation> operations;
    // kInput, kLines, kSoftmax, kOutput
    int map, source, channel;
    bool logistic;
};

struct Program {
    int band, first_band;
    int columns;                             // that any map reaches beyond the strip
    size_t scratch;                          // most floats that any step copies or transforms its pixels to
    std::vector<MapShape> maps;
    std::vector<Step> steps;
};
