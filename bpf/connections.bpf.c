//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Connections to the VM's listeners: raw tracepoints where a TCP socket changes
// its state. Every change is counted; a record tells whose it was.
#include <bpf/bpf_endian.h>
#include "connections.h"

/* Record types go on where those of the others end. */
#define RECORD_CONNECTION 5

/* States (include/net/tcp_states.h). */
#define ESTABLISHED 1
#define SYN_RECEIVED 3
#define FIN_WAIT_1 4
#define CLOSED 7
#define CLOSE_WAIT 8
#define LISTENING 10

#define INET6 10 /* AF_INET6 */

/* The head of struct sock_common (include/net/sock.h) in kernels with network
 * namespaces and IPv6; checked when the probe is set up. */
struct sock_head {
	__u32 remote4, local4; /* network order */
	__u32 hash;
	__u16 remote_port; /* network order */
	__u16 local_port;
	__u16 family;
	__u8 state;
	__u8 flags;
	__u32 interface;
	__u64 bind_node[2];
	__u64 protocol;
	__u64 net; /* the network namespace: address of its struct net */
	__u8 remote6[16], local6[16];
};

struct connection_settings {
	__u64 net;     /* the target's network namespace; 0: nothing is looked at */
	__u32 pid;     /* tgid of the target */
	__u32 learner; /* thread whose next socket that listens is kept in `learned`; 0: none */
	__u32 port_offset; /* of inet_sport in struct inet_sock; 0: not known */
	__u32 pad;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct connection_settings);
} settings SEC(".maps");

#define LEARNED_SIZE 1536 /* of struct tcp_sock, which is larger in all kernels */

struct learned_sock {
	__u8 bytes[LEARNED_SIZE];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct learned_sock);
} learned SEC(".maps");

/* What happened on a listener, exactly. */
struct connection_totals {
	__u64 opened, closed, closed_by_peer, closed_by_target;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LISTENERS_MAX);
	__type(key, __u32);
	__type(value, struct connection_totals);
} totals SEC(".maps");

enum connection_event {
	EVENT_OPENED = 1,
	EVENT_CLOSED,
	EVENT_LISTENS, /* the target listens on a new socket */
};
enum closed_by {
	CLOSED_BY_NOBODY, /* the connection broke */
	CLOSED_BY_PEER,
	CLOSED_BY_TARGET,
};

struct connection_record {
	__u32 type;    /* RECORD_CONNECTION */
	__u16 event;   /* enum connection_event */
	__u16 by;      /* enum closed_by */
	__u64 time;    /* CLOCK_MONOTONIC, ns */
	struct endpoints ends;
	__u32 listener;
};

enum connection_counter {
	COUNT_OUTPUT_FAILED, /* records that found no room */
	COUNTERS,
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} connection_counters SEC(".maps");

/* The socket that a reset is being handled for, on this CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} resetting SEC(".maps");

static __always_inline void copy_ends(struct endpoints *ends, const struct sock_head *sock)
{
	__u32 *local = (__u32 *)ends->local, *remote = (__u32 *)ends->remote;

	ends->local_port = sock->local_port;
	ends->remote_port = bpf_ntohs(sock->remote_port);
	if (sock->family == INET6) {
		__builtin_memcpy(ends->local, sock->local6, 16);
		__builtin_memcpy(ends->remote, sock->remote6, 16);
		return;
	}
	local[0] = local[1] = remote[0] = remote[1] = 0;
	local[2] = remote[2] = bpf_htonl(0xffff);
	local[3] = sock->local4;
	remote[3] = sock->remote4;
}

/* Tells whether a socket closes for a reset. Whatever socket closes, the note is of
 * no more use: the next socket may be at the same address. */
static __always_inline int take_reset(const void *sock)
{
	__u32 zero = 0;
	__u64 *reset = bpf_map_lookup_elem(&resetting, &zero);
	int is;

	if (!reset)
		return 0;
	is = *reset == (__u64)sock;
	*reset = 0;
	return is;
}

static __always_inline int closed_by(int to, int reset, __u32 pid)
{
	if (to == FIN_WAIT_1)
		return CLOSED_BY_TARGET;
	if (to == CLOSE_WAIT || reset)
		return CLOSED_BY_PEER;
	/* Given up by the target with data unread or unsent, or by a timer. */
	return bpf_get_current_pid_tgid() >> 32 == pid ? CLOSED_BY_TARGET : CLOSED_BY_NOBODY;
}

static __always_inline void changed(void *ctx, const void *sock, int to, int reset)
{
	struct connection_record record = { .type = RECORD_CONNECTION };
	struct connection_settings *set;
	struct connection_totals *total;
	struct sock_head head;
	__u32 zero = 0;

	set = bpf_map_lookup_elem(&settings, &zero);
	if (!set || bpf_probe_read_kernel(&head, sizeof(head), sock))
		return;
	if (to == LISTENING && set->learner && set->learner == (__u32)bpf_get_current_pid_tgid()) {
		struct learned_sock *all = bpf_map_lookup_elem(&learned, &zero);

		if (all)
			bpf_probe_read_kernel(all, sizeof(*all), sock);
	}
	if (!set->net || head.net != set->net)
		return;
	copy_ends(&record.ends, &head);
	/* A port that the listener did not choose is given back before this. */
	if (!record.ends.local_port && set->port_offset) {
		__u16 port = 0;

		bpf_probe_read_kernel(&port, sizeof(port), (const char *)sock + set->port_offset);
		record.ends.local_port = bpf_ntohs(port);
	}
	record.time = bpf_ktime_get_ns();
	if (to == LISTENING) {
		if (bpf_get_current_pid_tgid() >> 32 != set->pid)
			return;
		record.event = EVENT_LISTENS;
	} else {
		record.listener = find_listener(&record.ends);
		if (record.listener == NOT_THE_TARGETS)
			return;
		total = bpf_map_lookup_elem(&totals, &record.listener);
		if (!total)
			return;
		if (to == ESTABLISHED) {
			record.event = EVENT_OPENED;
			__sync_fetch_and_add(&total->opened, 1);
		} else {
			record.event = EVENT_CLOSED;
			record.by = closed_by(to, reset, set->pid);
			__sync_fetch_and_add(&total->closed, 1);
			if (record.by == CLOSED_BY_PEER)
				__sync_fetch_and_add(&total->closed_by_peer, 1);
			if (record.by == CLOSED_BY_TARGET)
				__sync_fetch_and_add(&total->closed_by_target, 1);
		}
	}
	if (bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &record, sizeof(record))) {
		__u64 *failed = bpf_map_lookup_elem(&connection_counters, &zero);

		if (failed)
			__sync_fetch_and_add(failed, 1);
	}
}

/* Newer kernels do not run a program that an interrupt finds at work: so what
 * the target does, and what comes from outside, are programs of their own. */

SEC("raw_tracepoint/inet_sock_set_state")
int connection_from_outside(struct bpf_raw_tracepoint_args *ctx)
{
	int from = ctx->args[1], to = ctx->args[2], reset = 0;

	if (to == CLOSED)
		reset = take_reset((const void *)ctx->args[0]);
	if ((from == SYN_RECEIVED && to == ESTABLISHED) || (from == ESTABLISHED && to != FIN_WAIT_1))
		changed(ctx, (const void *)ctx->args[0], to, reset);
	return 0;
}

SEC("raw_tracepoint/inet_sock_set_state")
int connection_from_target(struct bpf_raw_tracepoint_args *ctx)
{
	int from = ctx->args[1], to = ctx->args[2];

	if ((from == ESTABLISHED && to == FIN_WAIT_1) || to == LISTENING)
		changed(ctx, (const void *)ctx->args[0], to, 0);
	return 0;
}

/* The state changes right after this, on the same CPU. */
SEC("raw_tracepoint/tcp_receive_reset")
int connection_reset(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 zero = 0;
	__u64 *reset = bpf_map_lookup_elem(&resetting, &zero);

	if (reset)
		*reset = ctx->args[0];
	return 0;
}

/* So that the generated Go code knows the types. */
const struct connection_record *unused_connection_record __attribute__((unused));
const struct sock_head *unused_sock_head __attribute__((unused));

char LICENSE[] SEC("license") = "Dual BSD/GPL";
