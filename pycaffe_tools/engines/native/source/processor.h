// What this processor, and the system on it, can run.  Asked by the instruction itself: not every compiler's own
// __builtin_cpu_supports knows.
#pragma once

#if defined(__x86_64__)
#include <cpuid.h>

static inline bool all_set(unsigned value, unsigned bits) { return (value & bits) == bits; }

static inline void processor_has(bool& avx2, bool& avx512) {
    avx2 = avx512 = false;
    unsigned a, b, c, d;
    const unsigned fma = 1u << 12, saves_registers = 1u << 27, avx = 1u << 28;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !all_set(c, fma | saves_registers | avx)) return;
    unsigned saved, high;       // register sets that the system saves when it changes programs
    __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    avx2 = all_set(saved, 0x06) && all_set(b, 1u << 5);
    avx512 = avx2 && all_set(saved, 0xe6) && all_set(b, 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31);     // F, DQ, BW, VL
}
#else
static inline void processor_has(bool& avx2, bool& avx512) { avx2 = avx512 = false; }
#endif
