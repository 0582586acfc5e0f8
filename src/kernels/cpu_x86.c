/* SPDX-License-Identifier: Apache-2.0
 *
 * Which x86-64 tiers this processor has, and their tables. Compiled on x86-64 only, without the
 * tiers' flags: nothing here may run an instruction that the processor could lack.
 */
#include "kernels/cpu.h"

/* __builtin_cpu_supports reads cpuid and xgetbv: a feature whose registers the system does not save
 * counts as absent (libgcc, config/i386/cpuinfo). F16C it does not know by name in older
 * compilers; every processor with AVX2 and FMA has it, and so does every one that reports FMA. */
bool cpu_has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

bool cpu_has_avx512(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

bool cpu_has_vnni(void) {
    __builtin_cpu_init();
    return cpu_has_avx512() && __builtin_cpu_supports("avx512vnni");
}

void cpu_fill_avx2(cpu_kernels *k) {
    k->name = "avx2";
    matmul_fill_avx2(k);
    packed_fill_avx2(k);
    rows_fill_avx2(k);
    attention_fill_avx2(k);
    head_fill_avx2(k);
}

void cpu_fill_avx512(cpu_kernels *k) {
    k->name = "avx512";
    matmul_fill_avx512(k);
    if (cpu_has_vnni()) packed_fill_avx512(k);
    rows_fill_avx512(k);
    attention_fill_avx512(k);
    head_fill_avx512(k);
}
