/* SPDX-License-Identifier: Apache-2.0
 *
 * Stands in for cpu_x86.c on other machines: there are no tiers above scalar.
 */
#include "kernels/cpu.h"

bool cpu_has_avx2(void) {
    return false;
}

bool cpu_has_avx512(void) {
    return false;
}

bool cpu_has_avxvnni(void) {
    return false;
}

bool cpu_has_vnni(void) {
    return false;
}

bool cpu_has_avx512bf16(void) {
    return false;
}

bool cpu_is_fast_at_bf16(void) {
    return false;
}

bool cpu_has_amx(void) {
    return false;
}

void cpu_fill_amx(cpu_kernels *k) {
    (void)k;
}

void cpu_fill_avx512bf16(cpu_kernels *k) {
    (void)k;
}

void cpu_fill_avx2(cpu_kernels *k) {
    (void)k;
}

void cpu_fill_avxvnni(cpu_kernels *k) {
    (void)k;
}

void cpu_fill_avx512(cpu_kernels *k) {
    (void)k;
}
