// Vectors of floats as GCC's and Clang's vector extensions have them: the same source for AVX-512, AVX2 and every other
// processor.  Nothing here is for one processor but the two numbers that say how much its registers hold.
#pragma once

#include <cstddef>

#if defined(__AVX512F__)
constexpr int kLanes = 16, kRegisters = 32;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kRegisters = 32;
#else
constexpr int kLanes = 4, kRegisters = 16;
#endif

typedef float Vector __attribute__((vector_size(kLanes * sizeof(float)), may_alias));
// The same in memory, where a window may begin at any pixel.
typedef float LooseVector __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float)), may_alias));

#define INLINE inline __attribute__((always_inline))

static INLINE Vector load(const float* at) { return *reinterpret_cast<const LooseVector*>(at); }
static INLINE void store(float* at, Vector value) { *reinterpret_cast<LooseVector*>(at) = value; }
static INLINE Vector splat(float value) { return value - Vector{}; }
static INLINE Vector larger(Vector a, Vector b) { return a > b ? a : b; }

// Asks for memory that is read, or written, some hundred cycles later: the pixels of neighbouring channels lie too far
// apart for a processor to guess what comes next.
static INLINE void fetch_to_read(const float* at) { __builtin_prefetch(at, 0); }
static INLINE void fetch_to_write(float* at) { __builtin_prefetch(at, 1); }
