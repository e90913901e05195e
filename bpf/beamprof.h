/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Shared by all programs: types, the user registers, the output map.
 *
 * Everything here loads on Linux 5.4 without BTF: no CO-RE, no ring buffer, no
 * helper newer than 5.4 (bpf_probe_read_user and _kernel are rewritten to
 * bpf_probe_read by the loader where they do not exist).
 */
#ifndef BEAMPROF_H
#define BEAMPROF_H

#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define PAGE_SIZE 4096

/* Bounds that the compiler cannot move or merge, so that the verifier sees them
 * right before the access: older ones do not follow a value through copies. */
#define masked(value, mask) asm volatile("%0 &= %1" : "+r"(value) : "i"(mask))
#define opaque(value) asm volatile("" : "+r"(value))

/* The word at a place in an array of bytes. Through this function: of the address
 * of an array's element the compiler knows that it may be odd, and takes the word
 * for eight bytes. */
static __always_inline __u64 *word_at(void *bytes, __u64 at)
{
	return (__u64 *)((char *)bytes + at);
}

/* Returns 1 for 0 and 0 for all else, without a branch, and so that neither the
 * compiler nor a verifier makes one of it. */
static __always_inline __u64 is_zero(__u64 value)
{
	__u64 not_zero = ~((value - 1) & ~value);

	opaque(not_zero);
	value = (not_zero >> 63) ^ 1;
	opaque(value);
	return value;
}

/* Register sets as the kernel lays out its struct pt_regs.
 * x86: arch/x86/include/asm/ptrace.h; arm64: struct user_pt_regs in
 * arch/arm64/include/uapi/asm/ptrace.h, the first member of its pt_regs. */
#if defined(__TARGET_ARCH_x86)
struct registers {
	__u64 r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx,
		rsi, rdi, orig_rax, rip, cs, eflags, rsp, ss;
};
#define THREAD_SIZE 16384 /* arch/x86/include/asm/page_64_types.h, without KASAN */
#define RED_ZONE 128 /* bytes below the stack pointer that are in use (System V ABI) */
#define REGISTERS_SP(r) ((r)->rsp)
#define REGISTERS_FP(r) ((r)->rbp)
#define REGISTERS_USER(r) (((r)->cs & 3) == 3)
/* Bytes between the top of the kernel stack and the end of pt_regs: 0, and 16
 * in kernels built for FRED (TOP_OF_KERNEL_STACK_PADDING). */
#define TOP_PADDING_1 0
#define TOP_PADDING_2 16
#elif defined(__TARGET_ARCH_arm64)
struct registers {
	__u64 x[31], sp, pc, pstate;
};
#define THREAD_SIZE 16384 /* arch/arm64/include/asm/memory.h, 4 KiB pages */
#define RED_ZONE 0
#define REGISTERS_SP(r) ((r)->sp)
#define REGISTERS_FP(r) ((r)->x[29])
#define REGISTERS_USER(r) (((r)->pstate & 0xf) == 0) /* PSR_MODE_EL0t */
/* What follows user_pt_regs in pt_regs: 48 bytes in 5.4, 64 from 5.10 on. */
#define TOP_PADDING_1 48
#define TOP_PADDING_2 64
#else
#error "add the register set of this architecture"
#endif

/* The context of a perf_event program (include/uapi/linux/bpf_perf_event.h). */
struct perf_event_context {
	struct registers regs;
	__u64 sample_period;
	__u64 addr;
};

/* What an output record holds: its first field. */
enum record_type {
	RECORD_SAMPLE = 1,
	RECORD_CODE = 2,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} events SEC(".maps");

/* One VM: what to read, in bytes from the start of the VM's structs. */
struct target {
	__u32 current_process; /* in ErtsSchedulerData */
	__u32 current_port;    /* in ErtsSchedulerData */
	__u32 match_process;   /* in ErtsSchedulerData */
	__u32 free_process;    /* in ErtsSchedulerData */
	__u32 process_id;      /* in Process, like all below */
	__u32 process_htop;
	__u32 process_stop;
	__u32 process_heap;
	__u32 process_hend;
	__u32 process_dictionary;
	__u32 dictionary_mask;  /* in ProcDict: u32 sizeMask */
	__u32 dictionary_size;  /* in ProcDict: u32 usedSlots */
	__u32 dictionary_slots; /* in ProcDict: first slot */
	__u32 process_registered;
	__u32 process_scheduler;
	__u32 registered_name;  /* in struct reg_proc */
	__u32 pid_index_shift;  /* where a pid's slot of the process table is in it */
	__u32 pid_index_mask;
	__u64 process_slots; /* the process table: address of its first slot */
	__u64 initial_call;  /* the atom $initial_call, as a term */
	__u64 jit_descriptor; /* address of __jit_debug_descriptor */
	__u64 decode, decode_length; /* the code that decodes messages of other nodes; 0: none */
	__u64 samples;       /* ticks that hit it; counted by the sampling program */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32); /* tgid */
	__type(value, struct target);
} targets SEC(".maps");

#endif
