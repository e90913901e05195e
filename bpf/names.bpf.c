//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Names kernel code. Run by user space, attached to nothing.
 *
 * An upgrade that is chosen at run time, unlike all other programs: it needs
 * bpf_snprintf (5.13) and test runs of raw tracepoint programs (5.10). Where it
 * does not load, user space reads /proc/kallsyms. Still no BTF of the kernel.
 */
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define ADDRESSES 64

struct kernel_names {
	__u64 addresses[ADDRESSES];
	/* "name [module]", or the address in hexadecimal if it is no code. More than
	 * a name (KSYM_NAME_LEN: 512 since 6.1) and a module (56) together have. */
	__u8 names[ADDRESSES][640];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kernel_names);
} names SEC(".maps");

SEC("raw_tracepoint")
int name_addresses(void *ctx)
{
	static const char format[] = "%ps";
	__u32 zero = 0, i;
	struct kernel_names *n = bpf_map_lookup_elem(&names, &zero);

	if (!n)
		return 0;
	for (i = 0; i < ADDRESSES; i++)
		bpf_snprintf((char *)n->names[i], sizeof(n->names[i]), format, &n->addresses[i], sizeof(n->addresses[i]));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
