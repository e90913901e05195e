/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* BPF has no architecture: the generic kernel header serves every target. */
#include <asm-generic/types.h>
