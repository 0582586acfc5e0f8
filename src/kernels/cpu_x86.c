/* SPDX-License-Identifier: Apache-2.0
 *
 * Which x86-64 tiers this processor has, and their tables. Compiled on x86-64 only, without the
 * tiers' flags: nothing here may run an instruction that the processor could lack.
 */
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

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

/* cpuid leaf 7.1: AVX-VNNI, whose registers are those of AVX2. */
bool cpu_has_avxvnni(void) {
    unsigned a, b, c, d;
    return cpu_has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

bool cpu_has_vnni(void) {
    __builtin_cpu_init();
    return cpu_has_avx512() && __builtin_cpu_supports("avx512vnni");
}

/* cpuid leaf 7.1. */
bool cpu_has_avx512bf16(void) {
    unsigned a, b, c, d;
    return cpu_has_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
}

/* AMD's cores since Zen 4 are said to do twice as much with vdpbf16ps as with float32; that was not
 * measured here. An Intel Xeon with AMX does half as much (unmask bench, UNMASK_CPU=avx512bf16),
 * and has tiles instead. By maker, not by a measurement at start: a model's results must not depend
 * on how busy a machine is then. */
bool cpu_is_fast_at_bf16(void) {
    __builtin_cpu_init();
    return cpu_has_avx512bf16() && __builtin_cpu_is("amd");
}

/* cpuid leaf 7: AMX-BF16, AVX512-FP16 and AMX-TILE. The system hands out the
 * tiles' state on request, once for the process (arch_prctl ARCH_REQ_XCOMP_PERM for component 18,
 * Linux 5.16).
 */
bool cpu_has_amx(void) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    unsigned a, b, c, d;
    if (!cpu_has_vnni() || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    bool has_tiles = (d >> 22 & 1) && (d >> 23 & 1) && (d >> 24 & 1);
    if (!has_tiles || !cpu_has_avx512bf16()) return false;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

void cpu_fill_amx(cpu_kernels *k) {
    k->name = "amx";
    bf16_fill_amx(k);
    tiled_fill_amx(k);
}

void cpu_fill_avx512bf16(cpu_kernels *k) {
    k->name = "avx512bf16";
    bf16_fill_avx512bf16(k);
}

void cpu_fill_avx2(cpu_kernels *k) {
    k->name = "avx2";
    matmul_fill_avx2(k);
    packed_fill_avx2(k);
    limits_fill_avx2(k);
    rows_fill_avx2(k);
    attention_fill_avx2(k);
    head_fill_avx2(k);
}

void cpu_fill_avxvnni(cpu_kernels *k) {
    k->name = "avxvnni";
    packed_fill_avxvnni(k);
}

void cpu_fill_avx512(cpu_kernels *k) {
    k->name = "avx512";
    matmul_fill_avx512(k);
    if (cpu_has_vnni()) packed_fill_avx512(k);
    limits_fill_avx512(k);
    rows_fill_avx512(k);
    attention_fill_avx512(k);
    head_fill_avx512(k);
}
