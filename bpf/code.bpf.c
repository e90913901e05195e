//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Tells that the VM registered or unregistered JIT code: a uprobe on
// __jit_debug_register_code, which every beam.smp with a JIT calls for both.
#include "beamprof.h"

struct code_record {
	__u32 type; /* RECORD_CODE */
	__u32 pid;
	__u64 time; /* CLOCK_MONOTONIC, ns */
};

SEC("uprobe")
int code_registered(void *ctx)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct code_record r = {
		.type = RECORD_CODE,
		.pid = tgid,
		.time = bpf_ktime_get_ns(),
	};

	if (!bpf_map_lookup_elem(&targets, &tgid))
		return 0;
	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &r, sizeof(r));
	return 0;
}

/* So that the generated Go code knows the type. */
const struct code_record *unused_code_record __attribute__((unused));

char LICENSE[] SEC("license") = "Dual BSD/GPL";
