/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Shared by the programs that look at connections: the VM's listeners. */
#ifndef CONNECTIONS_H
#define CONNECTIONS_H

#include "beamprof.h"

#define LISTENERS_MAX 1024

/* Where a listener listens. Addresses are those of IPv6, IPv4 ones mapped into it. */
struct listener_key {
	__u8 address[16]; /* zero, or zero mapped, is every address of its family */
	__u16 port;
	__u16 pad;
};

#define NOT_THE_TARGETS 0xffffffff /* another process listens there */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4 * LISTENERS_MAX);
	__type(key, struct listener_key);
	__type(value, __u32); /* number of the listener */
} listeners SEC(".maps");

/* Both ends of a connection. */
struct endpoints {
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port;
	__u16 remote_port;
};

/* find_listener returns the number of the listener that a connection came to,
 * NOT_THE_TARGETS if there is none. As in the kernel the address itself goes
 * before every address. */
static __always_inline __u32 find_listener(const struct endpoints *ends)
{
	struct listener_key key = { .port = ends->local_port };
	const __u64 *local = (const __u64 *)ends->local;
	__u32 *found;

	((__u64 *)key.address)[0] = local[0];
	((__u64 *)key.address)[1] = local[1];
	found = bpf_map_lookup_elem(&listeners, &key);
	if (found)
		return *found;
	/* ::ffff:0.0.0.0 for ::ffff:a.b.c.d, :: for all others. */
	if (local[0] == 0 && ((const __u32 *)ends->local)[2] == bpf_htonl(0xffff)) {
		((__u32 *)key.address)[3] = 0;
	} else {
		((__u64 *)key.address)[0] = 0;
		((__u64 *)key.address)[1] = 0;
	}
	found = bpf_map_lookup_elem(&listeners, &key);
	return found ? *found : NOT_THE_TARGETS;
}

#endif
