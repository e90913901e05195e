//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// What clients say first, and the answer: a socket filter on a packet socket in
// the VM's network namespace, which keeps every packet from that socket. Of a
// connection to one of the VM's listeners the first bytes of each direction are
// looked at, and of an MQTT CONNECT what is before the end of the client id: so
// neither user name nor password is ever put into a record.
#include <bpf/bpf_endian.h>
#include "connections.h"

/* Record types go on where those of the others end. */
#define RECORD_SPOKE 6
#define RECORD_ANSWERED 7

#define ETHERTYPE_IP 0x0800
#define ETHERTYPE_IP6 0x86dd
#define PROTOCOL_TCP 6
#define PACKET_TO_US 0 /* PACKET_HOST */
#define PACKET_SENT 4  /* PACKET_OUTGOING */

#define FLAG_SYN 2
#define FLAG_ACK 16

#define HEAD_MAX 512 /* of what a client says first, if it comes in parts */
#define PART_MASK 1023
#define ID_MAX 128   /* of a client id */
#define BYTES_MAX 8  /* of what is not MQTT */
#define ANSWER_MAX 12

/* One bit for each port that the VM listens on. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536 / 64);
	__type(key, __u32);
	__type(value, __u64);
} ports SEC(".maps");

/* A connection whose first bytes are awaited. */
struct head {
	__u32 client, server; /* sequence numbers of what comes next */
	__u16 have;           /* bytes in its struct part */
	__u8 spoke, answered; /* all is known of that direction */
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct endpoints);
	__type(value, struct head);
} heads SEC(".maps");

/* What a client said so far; an id may begin anywhere in it. */
struct part {
	__u8 bytes[PART_MASK + 1 + ID_MAX];
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct endpoints);
	__type(value, struct part);
} parts SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct part);
} whole SEC(".maps");

struct speech {
	__u32 type; /* RECORD_SPOKE or RECORD_ANSWERED */
	__u8 mqtt;  /* 1: a CONNECT, and what follows is its */
	__u8 level; /* version of the protocol: 3 is 3.1, 4 is 3.1.1, 5 */
	__u8 flags;
	__u8 whole; /* the id was found */
	__u64 time; /* CLOCK_MONOTONIC, ns */
	struct endpoints ends;
	__u16 keep_alive; /* seconds */
	__u16 id_length;  /* also if it is more than ID_MAX */
	__u32 length;     /* of bytes */
	__u8 bytes[ID_MAX]; /* the client id; else what was said first */
};
#define SPEECH_HEAD __builtin_offsetof(struct speech, bytes)
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct speech);
} speeches SEC(".maps");

enum packet_counter {
	COUNT_PACKETS,
	COUNT_TIMED,       /* packets whose time was taken */
	COUNT_NANOSECONDS, /* of those */
	COUNT_SPEECH_FAILED, /* records that found no room */
	PACKET_COUNTERS,
};
#define TIMED_EVERY 64 /* packets; a power of two */
#define TIME_MOST 10000 /* ns; what takes longer was interrupted, or the virtual CPU was */
struct packet_counts {
	__u64 counts[PACKET_COUNTERS];
	__u64 zero; /* always; but the verifier does not know */
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct packet_counts);
} packet_counts SEC(".maps");

struct ip_header {
	__u8 version_length, service;
	__u16 length, id, fragment;
	__u8 time_to_live, protocol;
	__u16 checksum;
	__u32 from, to;
};

struct ip6_header {
	__u32 version_flow;
	__u16 length;
	__u8 next, hop_limit;
	__u64 from[2], to[2];
};

struct tcp_header {
	__u16 from, to;
	__u32 sequence, acknowledged;
	__u8 length, flags;
	__u16 window;
};

/* A packet of TCP: where its data is, and whose it is. */
struct packet {
	struct endpoints ends;
	struct tcp_header tcp;
	__u32 data, length;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct packet);
} packets SEC(".maps");

static __always_inline int has_port(__u16 port)
{
	__u32 word = port >> 6;
	__u64 *bits = bpf_map_lookup_elem(&ports, &word);

	return bits && *bits >> (port & 63) & 1;
}

static __always_inline int read_tcp(struct __sk_buff *skb, struct packet *p, __u32 header, __u32 end, int sent)
{
	__u16 local;

	if (bpf_skb_load_bytes(skb, header, &p->tcp, sizeof(p->tcp)))
		return 0;
	local = bpf_ntohs(sent ? p->tcp.from : p->tcp.to);
	if (!has_port(local))
		return 0;
	p->ends.local_port = local;
	p->ends.remote_port = bpf_ntohs(sent ? p->tcp.to : p->tcp.from);
	p->data = header + (p->tcp.length >> 4) * 4;
	p->length = end > p->data ? end - p->data : 0;
	return p->length || p->tcp.flags & FLAG_SYN;
}

/* The packet begins at its network header, in all kinds of devices. */
static __always_inline int read_packet(struct __sk_buff *skb, struct packet *p, int sent)
{
	__u64 *from = (__u64 *)(sent ? p->ends.local : p->ends.remote);
	__u64 *to = (__u64 *)(sent ? p->ends.remote : p->ends.local);

	if (skb->protocol == bpf_htons(ETHERTYPE_IP)) {
		struct ip_header ip;
		__u32 end = skb->len;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)) || ip.protocol != PROTOCOL_TCP || ip.fragment & bpf_htons(0x1fff))
			return 0;
		/* Short frames are padded; packets too long for the field say 0. */
		if (ip.length && bpf_ntohs(ip.length) < end)
			end = bpf_ntohs(ip.length);
		if (!read_tcp(skb, p, (ip.version_length & 15) * 4, end, sent))
			return 0;
		from[0] = to[0] = 0;
		((__u32 *)from)[2] = ((__u32 *)to)[2] = bpf_htonl(0xffff);
		((__u32 *)from)[3] = ip.from;
		((__u32 *)to)[3] = ip.to;
		return 1;
	}
	if (skb->protocol == bpf_htons(ETHERTYPE_IP6)) {
		struct ip6_header ip;
		__u32 end = skb->len;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)) || ip.next != PROTOCOL_TCP)
			return 0;
		if (ip.length && bpf_ntohs(ip.length) + sizeof(ip) < end)
			end = bpf_ntohs(ip.length) + sizeof(ip);
		if (!read_tcp(skb, p, sizeof(ip), end, sent))
			return 0;
		from[0] = ip.from[0];
		from[1] = ip.from[1];
		to[0] = ip.to[0];
		to[1] = ip.to[1];
		return 1;
	}
	return 0;
}

enum parsed { NOT_MQTT, MORE_IS_NEEDED, COMPLETE };

#define AT(part, index) ((part)->bytes[(index) & PART_MASK])

/* skip_number reads one of MQTT's numbers of variable length, of up to four
 * bytes. It returns 0 if it is not all there. */
static __always_inline __u32 skip_number(const struct part *part, __u32 at, __u32 have, __u32 *value)
{
	__u32 n, byte;

	*value = 0;
#pragma unroll
	for (n = 0; n < 4; n++) {
		if (at + n >= have)
			return 0;
		byte = AT(part, at + n);
		*value |= (byte & 127) << (7 * n);
		if (byte < 128)
			return at + n + 1;
	}
	return 0;
}

/* The verifier walks on for each value that it knows a number to have. Of what
 * was in a map's value it knows none. */
#define forget(number, s) do { \
	*(volatile __u32 *)&(s)->length = (number); \
	(number) = *(volatile __u32 *)&(s)->length; } while (0)

/* parse finds the client id of a CONNECT (MQTT 3.1 to 5: fixed header, protocol
 * name, level, flags, keep-alive, in 5 properties, client id) in the first bytes
 * of a connection, and says where it is. */
static __always_inline enum parsed parse(const struct part *part, __u32 have, struct speech *s, __u32 *id)
{
	__u32 at, name, length;

	if (AT(part, 0) != 0x10)
		return NOT_MQTT;
	at = skip_number(part, 1, have, &length);
	if (!at)
		return have < 5 ? MORE_IS_NEEDED : NOT_MQTT;
	forget(at, s);
	if (at + 2 > have)
		return MORE_IS_NEEDED;
	name = AT(part, at + 1);
	if (AT(part, at) || (name != 4 && name != 6))
		return NOT_MQTT;
	at += 2;
	if (at + name + 4 > have)
		return MORE_IS_NEEDED;
	if (AT(part, at) != 'M' || AT(part, at + 1) != 'Q' || AT(part, at + 2) != (name == 4 ? 'T' : 'I') || AT(part, at + 3) != (name == 4 ? 'T' : 's'))
		return NOT_MQTT;
	at += name;
	forget(at, s);
	s->mqtt = 1;
	s->level = AT(part, at) & 127; /* bridges set the highest bit */
	s->flags = AT(part, at + 1);
	s->keep_alive = AT(part, at + 2) << 8 | AT(part, at + 3);
	at += 4;
	if (s->level == 5) {
		at = skip_number(part, at, have, &length);
		if (!at)
			return MORE_IS_NEEDED;
		if (length > HEAD_MAX)
			return MORE_IS_NEEDED; /* more than is kept */
		at += length;
	}
	forget(at, s);
	if (at + 2 > have)
		return MORE_IS_NEEDED;
	s->id_length = AT(part, at) << 8 | AT(part, at + 1);
	at += 2;
	s->length = s->id_length < ID_MAX ? s->id_length : ID_MAX;
	if (at + s->length > have)
		return MORE_IS_NEEDED;
	s->whole = 1;
	*id = at;
	return COMPLETE;
}

static __always_inline struct speech *new_speech(__u32 type, const struct packet *p)
{
	__u32 zero = 0;
	struct speech *s = bpf_map_lookup_elem(&speeches, &zero);

	if (!s)
		return 0;
	s->type = type;
	s->mqtt = s->level = s->flags = s->whole = 0;
	s->time = bpf_ktime_get_ns();
	s->ends = p->ends;
	s->keep_alive = s->id_length = 0;
	s->length = 0;
	return s;
}

static __always_inline void output(struct __sk_buff *skb, struct speech *s, struct packet_counts *counts)
{
	__u64 size = s->length;

	masked(size, 255);
	if (size > ID_MAX)
		size = ID_MAX;
	if (bpf_perf_event_output(skb, &events, BPF_F_CURRENT_CPU, s, SPEECH_HEAD + size))
		counts->counts[COUNT_SPEECH_FAILED]++;
}

static __always_inline void spoke(struct __sk_buff *skb, const struct packet *p, struct head *head, struct packet_counts *counts)
{
	__u32 zero = 0, id = 0, have, i;
	__u64 length = p->length, at = head->have, *to;
	const __u64 *from;
	struct part *part;
	struct speech *s;
	enum parsed found;

	if (bpf_ntohl(p->tcp.sequence) != head->client)
		return; /* a repetition; or what was before is lost to us */
	part = at ? bpf_map_lookup_elem(&parts, &p->ends) : bpf_map_lookup_elem(&whole, &zero);
	s = new_speech(RECORD_SPOKE, p);
	if (!part || !s)
		return;
	if (length > HEAD_MAX)
		length = HEAD_MAX;
	masked(at, HEAD_MAX - 1);
	/* From 1 to HEAD_MAX, so that old verifiers see it. */
	length--;
	masked(length, HEAD_MAX - 1);
	length++;
	if (bpf_skb_load_bytes(skb, p->data, part->bytes + at, length))
		return;
	have = at + length;
	found = parse(part, have, s, &id);
	if (found == MORE_IS_NEEDED && have < HEAD_MAX) {
		if (!head->have)
			bpf_map_update_elem(&parts, &p->ends, part, BPF_ANY);
		head->have = have;
		head->client += p->length;
		return;
	}
	if (found == COMPLETE) {
		masked(id, PART_MASK);
		from = (const __u64 *)(part->bytes + id);
		to = (__u64 *)s->bytes;
#pragma unroll
		for (i = 0; i < ID_MAX / 8; i++)
			to[i] = from[i];
	} else if (found == NOT_MQTT) {
		*(__u64 *)s->bytes = *(__u64 *)part->bytes;
		s->length = have < BYTES_MAX ? have : BYTES_MAX;
	} else {
		s->length = 0;
	}
	output(skb, s, counts);
	head->spoke = 1;
	if (head->have)
		bpf_map_delete_elem(&parts, &p->ends);
}

static __always_inline void answered(struct __sk_buff *skb, const struct packet *p, struct head *head, struct packet_counts *counts)
{
	__u64 length = p->length;
	struct speech *s;

	if (bpf_ntohl(p->tcp.sequence) != head->server)
		return;
	s = new_speech(RECORD_ANSWERED, p);
	if (!s)
		return;
	if (length > ANSWER_MAX)
		length = ANSWER_MAX;
	length--;
	masked(length, 15);
	length++;
	if (bpf_skb_load_bytes(skb, p->data, s->bytes, length))
		return;
	s->length = length;
	output(skb, s, counts);
	head->answered = 1;
}

static __always_inline void look(struct __sk_buff *skb, struct packet_counts *counts)
{
	__u32 zero = 0, sent = skb->pkt_type == PACKET_SENT;
	struct packet *p = bpf_map_lookup_elem(&packets, &zero);
	struct head *head;

	/* On the loopback interface a packet passes twice: sent, and then to us. */
	if (!p || (!sent && skb->pkt_type != PACKET_TO_US))
		return;
	if (!read_packet(skb, p, sent))
		return;
	if (p->tcp.flags & FLAG_SYN) {
		struct head new = { .client = bpf_ntohl(p->tcp.acknowledged), .server = bpf_ntohl(p->tcp.sequence) + 1 };

		if (sent && p->tcp.flags & FLAG_ACK && find_listener(&p->ends) != NOT_THE_TARGETS)
			bpf_map_update_elem(&heads, &p->ends, &new, BPF_ANY);
		return;
	}
	head = bpf_map_lookup_elem(&heads, &p->ends);
	if (!head)
		return;
	if (sent && !head->answered)
		answered(skb, p, head, counts);
	if (!sent && !head->spoke)
		spoke(skb, p, head, counts);
	if (head->answered && head->spoke)
		bpf_map_delete_elem(&heads, &p->ends);
}

SEC("socket")
int connection_packet(struct __sk_buff *skb)
{
	__u32 zero = 0;
	__u64 start;
	struct packet_counts *counts = bpf_map_lookup_elem(&packet_counts, &zero);

	if (!counts)
		return 0;
	/* In one place, or the verifier walks all of it twice. */
	start = counts->zero;
	if (!(++counts->counts[COUNT_PACKETS] & (TIMED_EVERY - 1)))
		start = bpf_ktime_get_ns();
	look(skb, counts);
	if (start) {
		start = bpf_ktime_get_ns() - start;
		counts->counts[COUNT_TIMED]++;
		counts->counts[COUNT_NANOSECONDS] += start < TIME_MOST ? start : TIME_MOST;
	}
	return 0; /* the socket gets nothing */
}

/* So that the generated Go code knows the type. */
const struct speech *unused_speech __attribute__((unused));

char LICENSE[] SEC("license") = "Dual BSD/GPL";
