//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Tells that the VM registered or unregistered JIT code: a uprobe on
// __jit_debug_register_code, which every beam.smp with a JIT calls for both.
#include "beamprof.h"

struct code_record {
	__u32 type; /* RECORD_CODE */
	__u32 pid;
	__u64 time;   /* CLOCK_MONOTONIC, ns */
	__u64 entry;  /* of the VM's list, that came or goes; 0 if not known */
	__u32 action; /* 1: it came, 2: it goes */
	__u32 unused;
};

/* The head of GDB's struct jit_descriptor. */
struct descriptor {
	__u32 version;
	__u32 action;
	__u64 relevant; /* the entry that the action is about */
};

SEC("uprobe")
int code_registered(void *ctx)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	const struct target *t = bpf_map_lookup_elem(&targets, &tgid);
	struct descriptor d = {};
	struct code_record r = {
		.type = RECORD_CODE,
		.pid = tgid,
		.time = bpf_ktime_get_ns(),
	};

	if (!t)
		return 0;
	if (!bpf_probe_read_user(&d, sizeof(d), (void *)t->jit_descriptor)) {
		r.entry = d.relevant;
		r.action = d.action;
	}
	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &r, sizeof(r));
	return 0;
}

/* So that the generated Go code knows the type. */
const struct code_record *unused_code_record __attribute__((unused));

char LICENSE[] SEC("license") = "Dual BSD/GPL";
