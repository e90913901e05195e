//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Messages between nodes: two uprobes in the VM count every message, and copy
// what tells its kind, its destination and who sends it. All meaning is made in
// user space, which also takes the probes out of the VM where there are too many
// messages; see collector/distribution.
#include "beamprof.h"

/* Arguments of the probed functions, and the registers that a function leaves
 * as they were, in which its caller keeps what it works on. */
#if defined(__TARGET_ARCH_x86)
#define ARGUMENT_1(r) ((r)->rdi)
#define ARGUMENT_2(r) ((r)->rsi)
#define ARGUMENT_3(r) ((r)->rdx)
#define SAVED_REGISTERS 6
#define SAVE_REGISTERS(r, to) do { \
	(to)[0] = (r)->rbx; (to)[1] = (r)->rbp; (to)[2] = (r)->r12; \
	(to)[3] = (r)->r13; (to)[4] = (r)->r14; (to)[5] = (r)->r15; } while (0)
/* The seventh and eighth argument are above the return address. */
static __always_inline int arguments_7_8(struct registers *r, __u64 *both)
{
	return bpf_probe_read_user(both, 16, (void *)(r->rsp + 8));
}
#elif defined(__TARGET_ARCH_arm64)
#define ARGUMENT_1(r) ((r)->x[0])
#define ARGUMENT_2(r) ((r)->x[1])
#define ARGUMENT_3(r) ((r)->x[2])
#define SAVED_REGISTERS 10
#define SAVE_REGISTERS(r, to) do { \
	(to)[0] = (r)->x[19]; (to)[1] = (r)->x[20]; (to)[2] = (r)->x[21]; \
	(to)[3] = (r)->x[22]; (to)[4] = (r)->x[23]; (to)[5] = (r)->x[24]; \
	(to)[6] = (r)->x[25]; (to)[7] = (r)->x[26]; (to)[8] = (r)->x[27]; \
	(to)[9] = (r)->x[28]; } while (0)
static __always_inline int arguments_7_8(struct registers *r, __u64 *both)
{
	both[0] = r->x[6];
	both[1] = r->x[7];
	return 0;
}
#endif

/* Record types go on where those of beamprof.h end. */
#define RECORD_SENT 3
#define RECORD_RECEIVED 4

#define PROCESS_SIZE 512   /* the head of struct process; keep a power of two */
#define SENDING_SIZE 384   /* of struct erts_dsig_send_context, what is read */
#define STACK_MAX 2048     /* of the Erlang stack, at its root and at its top */
#define MESSAGE_MAX 1024   /* of a message received */
#define ATOMS_MAX 64       /* numbered atoms of a message received */
#define BUFFERS_MAX 256    /* packets of a message sent whose sizes are added up */
#define TERM_WORDS 8       /* a tuple's header and its first elements, or a list cell */
#define TERMS_MAX 18       /* of a message and its control message */
#define ROOT_WORDS 24      /* of the stack at its root, that may point to a request */
#define REQUEST_MAX 12     /* tuples they point to, and as many in those */
#define DATA_MAX 8192      /* payload without slack; keep a power of two */

/* Tags of terms (erts/emulator/beam/erl_term.h, OTP 23 to 28). */
#define TAG_LIST 1
#define TAG_BOXED 2
#define HEADER_MASK 0x3f /* 0 in the header of a tuple, with the arity above */
#define POINTER(term) ((void *)((term) & ~7ULL))

/* The first bytes of a message (erts/emulator/beam/external.h, OTP 22 to 28). */
#define VERSION_MAGIC 131
#define DIST_HEADER 68
#define DIST_FRAG_HEADER 69
#define DIST_FRAG_CONT 70

/* Directions. */
#define SENT 0
#define RECEIVED 1

/* The VM: where fields are in its structs, in bytes. */
struct distribution {
	__u32 pid; /* tgid */
	__u32 send_register; /* which saved register has what is sent */
	/* In struct erts_dsig_send_context. */
	__u32 send_control, send_message, send_entry, send_connection,
		send_header_size, send_header, send_buffers, send_fragments,
		send_process;
	__u32 buffer_size, buffer_vector; /* of struct ErtsDistOutputBuf_, and in it */
	__u32 vector_bytes;               /* in struct erl_io_vec */
	__u32 entry_node, entry_cache; /* in struct dist_entry_ */
	__u32 cache_in;                /* in struct cache */
	__u32 process_stop, process_heap, process_hend;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct distribution);
} distributions SEC(".maps");

/* Where a scheduler's C stack begins while JIT code runs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); /* tid */
	__type(value, __u64);
} stacks SEC(".maps");

/* What went over a connection, exactly. */
struct traffic_key {
	__u64 entry; /* address of its dist_entry_ */
	__u32 connection;
	__u32 direction;
};
struct traffic {
	__u64 messages, packets, bytes;
	__u64 node; /* atom */
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct traffic_key);
	__type(value, struct traffic);
} carried SEC(".maps");

enum distribution_counter {
	COUNT_OUTPUT_FAILED, /* no room in the output buffer */
	COUNT_BUSY,          /* interrupted while all records were in use */
	COUNT_NOT_FOUND,     /* what is sent could not be read */
	COUNT_NO_ROOM,       /* more connections than the map holds */
	COUNTERS,
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* A term on the heap: what it points to. */
struct heap_term {
	__u64 term;
	__u64 words[TERM_WORDS];
};

struct message {
	__u32 type, pad;
	__u64 time; /* CLOCK_MONOTONIC, ns */
	__u32 pid, tid;
	__u64 entry; /* address of its dist_entry_ */
	__u32 connection, pad2;
	__u64 node;     /* atom */
	__u64 bytes;    /* on the wire, without TLS; received: of this packet */
	__u64 sequence; /* received: of the packets of one message, 0 if it is one */
	__u64 fragment; /* received: how many come, this one included */
	__u64 process;  /* sent: address of the process, or 0 */
	__u64 control, term; /* sent: the two terms; the second is 0 if there is none */
	__u64 leaf;     /* return address into JIT code, or 0 */
	__u64 root;     /* address of the copy of the Erlang stack next to its root */
	__u64 top;      /* address of the copy at its top, if that is another one */
	__u64 payload;  /* bytes after the header */
	/* Lengths in bytes of the parts of the payload, in their order. */
	__u32 process_length, root_length, top_length, terms_length, data_length, atoms_length;
};
struct message_record {
	struct message h;
	__u8 data[DATA_MAX + PAGE_SIZE];
	/* What follows is not part of what is sent. */
	__u64 sending[SENDING_SIZE / 8];
	__u64 saved[16]; /* registers */
	__u64 busy;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct message_record);
} messages SEC(".maps");

static __always_inline void count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &which);

	if (value)
		*value += 1;
}

static __always_inline struct distribution *settings(void)
{
	__u32 zero = 0;
	struct distribution *d = bpf_map_lookup_elem(&distributions, &zero);

	if (!d || bpf_get_current_pid_tgid() >> 32 != d->pid)
		return 0;
	return d;
}

/* Counts a packet or message. Returns the node's name, or 0. */
static __always_inline __u64 add_traffic(const struct distribution *d, __u64 entry,
					 __u32 connection, __u32 direction,
					 __u64 n, __u64 packets, __u64 bytes)
{
	struct traffic_key key = {.entry = entry, .connection = connection, .direction = direction};
	struct traffic *t = bpf_map_lookup_elem(&carried, &key);
	struct traffic first = {};

	if (!t) {
		bpf_map_update_elem(&carried, &key, &first, BPF_NOEXIST);
		t = bpf_map_lookup_elem(&carried, &key);
		if (!t) {
			count(COUNT_NO_ROOM);
			return 0;
		}
	}
	if (!t->node)
		bpf_probe_read_user(&t->node, 8, (void *)(entry + d->entry_node));
	t->messages += n;
	t->packets += packets;
	t->bytes += bytes;
	return t->node;
}

/* The record that this CPU puts messages together in. Newer kernels let another
 * thread of the VM interrupt a uprobe's program: then it uses a second one. */
static __always_inline struct message_record *take_record(__u32 type, const struct distribution *d)
{
	__u32 first = 0, second = 1;
	struct message_record *r = bpf_map_lookup_elem(&messages, &first);

	if (r && r->busy)
		r = bpf_map_lookup_elem(&messages, &second);
	if (!r)
		return 0;
	if (r->busy) {
		count(COUNT_BUSY);
		return 0;
	}
	r->busy = 1;
	__builtin_memset(&r->h, 0, sizeof(r->h));
	r->h.type = type;
	r->h.time = bpf_ktime_get_ns();
	r->h.pid = d->pid;
	r->h.tid = bpf_get_current_pid_tgid();
	return r;
}

static __always_inline void output(void *ctx, struct message_record *r)
{
	__u64 length = sizeof(r->h) + r->h.payload;

	opaque(length);
	if (length > sizeof(r->h) + sizeof(r->data))
		length = sizeof(r->h) + sizeof(r->data);
	if (r->h.tid != (__u32)bpf_get_current_pid_tgid())
		count(COUNT_BUSY);
	else if (bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, r, length))
		count(COUNT_OUTPUT_FAILED);
	r->busy = 0;
}

/* Appends length (at most a page) bytes of user memory to the payload. */
static __always_inline int append(struct message_record *r, __u64 from, __u64 length)
{
	__u64 at = r->h.payload;

	opaque(length);
	if (length > PAGE_SIZE || at >= DATA_MAX)
		return 0;
	masked(at, DATA_MAX - 1);
	if (bpf_probe_read_user(&r->data[at], length, (void *)from))
		return 0;
	r->h.payload += length;
	return 1;
}

static __always_inline __u64 process_field(struct message_record *r, __u32 offset)
{
	return *(__u64 *)&r->data[offset & (PROCESS_SIZE - 8)];
}

/* Copies the process that sends and its Erlang stack. The code that sends has
 * stored where the stack is, and its return address is next to the base of the
 * scheduler's C stack. */
static __always_inline void copy_sender(struct message_record *r, const struct distribution *d)
{
	__u32 tid = r->h.tid;
	__u64 *base = bpf_map_lookup_elem(&stacks, &tid), stop, heap, hend, length;

	if (!r->h.process || !append(r, r->h.process, PROCESS_SIZE)) {
		r->h.process = 0;
		return;
	}
	r->h.process_length = PROCESS_SIZE;
	if (base)
		bpf_probe_read_user(&r->h.leaf, 8, (void *)(*base - 8));
	stop = process_field(r, d->process_stop);
	heap = process_field(r, d->process_heap);
	hend = process_field(r, d->process_hend);
	if (hend <= heap || stop < heap || stop > hend || (hend & 7) || (stop & 7))
		return;
	length = hend - stop;
	if (length > STACK_MAX)
		length = STACK_MAX;
	if (!append(r, hend - length, length))
		return;
	r->h.root = hend - length;
	r->h.root_length = length;
	if (stop == hend - length)
		return;
	length = hend - length - stop;
	if (length > STACK_MAX)
		length = STACK_MAX;
	if (append(r, stop, length)) {
		r->h.top = stop;
		r->h.top_length = length;
	}
}

/* Copies what a term points to if it is a tuple, a list cell, a reference or the
 * pid of another node. What is copied behind its end means nothing. */
static __always_inline void copy_term(struct message_record *r, __u64 start, __u64 word, __u64 most)
{
	__u64 at = r->h.payload;
	struct heap_term *term;

	if ((word & 3) - TAG_LIST > TAG_BOXED - TAG_LIST || at >= DATA_MAX ||
	    at - start >= most * sizeof(*term))
		return;
	masked(at, DATA_MAX - 8);
	term = (struct heap_term *)&r->data[at];
	/* Behind the last term of a block of memory there may be nothing. */
	if (bpf_probe_read_user(term->words, sizeof(term->words), POINTER(word)) &&
	    bpf_probe_read_user(term->words, 16, POINTER(word)))
		return;
	term->term = word;
	r->h.payload += sizeof(*term);
}

/* The element n of a tuple, or 0, which is no term, if it has no so many. */
static __always_inline __u64 element(const struct heap_term *term, __u64 n)
{
	__s64 beyond = n - 1 - (term->words[0] >> 6);

	return term->words[n] & beyond >> 63;
}

/* Copies the control message and the message, and what is inside them as far as
 * there is room, breadth first. */
static __always_inline void copy_terms(struct message_record *r)
{
	__u64 start = r->h.payload, at;
	struct heap_term *term;
	int i;

	copy_term(r, start, r->h.control, TERMS_MAX);
	copy_term(r, start, r->h.term, TERMS_MAX);
	for (i = 0; i < TERMS_MAX; i++) {
		at = start + i * sizeof(*term);
		if (at >= r->h.payload)
			break;
		masked(at, DATA_MAX - 8);
		term = (struct heap_term *)&r->data[at];
		if ((term->term & 3) == TAG_LIST) {
			copy_term(r, start, term->words[0], TERMS_MAX);
			copy_term(r, start, term->words[1], TERMS_MAX);
			continue;
		}
		if (term->words[0] & HEADER_MASK)
			continue; /* what is behind it are no terms */
		copy_term(r, start, element(term, 1), TERMS_MAX);
		copy_term(r, start, element(term, 2), TERMS_MAX);
		copy_term(r, start, element(term, 3), TERMS_MAX);
		copy_term(r, start, element(term, 4), TERMS_MAX);
		copy_term(r, start, element(term, 5), TERMS_MAX);
	}
	r->h.terms_length = r->h.payload - start;
}

/* Copies what the words at the root of the stack point to, and what is in that:
 * the request that the process handles is there, if it is a server. */
static __always_inline void copy_request(struct message_record *r)
{
	__u64 start = r->h.payload, end = r->h.process_length + r->h.root_length, at, word;
	struct heap_term *term;
	int i;

	for (i = 2; i < ROOT_WORDS; i++) {
		if (i * 8 > r->h.root_length)
			break;
		at = end - i * 8;
		masked(at, DATA_MAX - 8);
		word = *(__u64 *)&r->data[at];
		if ((word & 3) == TAG_BOXED)
			copy_term(r, start, word, REQUEST_MAX);
	}
	end = r->h.payload;
	for (i = 0; i < REQUEST_MAX; i++) {
		at = start + i * sizeof(*term);
		if (at >= end)
			break;
		masked(at, DATA_MAX - 8);
		term = (struct heap_term *)&r->data[at];
		if (term->words[0] & HEADER_MASK)
			continue;
		copy_term(r, start, element(term, 2), 2 * REQUEST_MAX);
		copy_term(r, start, element(term, 3), 2 * REQUEST_MAX);
	}
	r->h.terms_length += r->h.payload - start;
}

static __always_inline __u64 sending(struct message_record *r, __u32 offset)
{
	offset >>= 3;
	if (offset >= SENDING_SIZE / 8)
		return 0;
	return r->sending[offset];
}

/* The bytes of a message on the wire, without those of atoms that are new to the
 * other end: that is known only when it is their turn. */
static __always_inline __u64 message_bytes(struct message_record *r, const struct distribution *d,
					   __u64 fragments)
{
	__u64 buffers = sending(r, d->send_buffers) + d->buffer_vector, vector, size, sum = 0, n = 0;
	__u8 head[20] = {};
	int i;

	for (i = 0; i < BUFFERS_MAX; i++) {
		if (i >= fragments)
			break;
		vector = size = 0;
		bpf_probe_read_user(&vector, 8, (void *)(buffers + i * d->buffer_size));
		bpf_probe_read_user(&size, 8, (void *)(vector + d->vector_bytes));
		sum += size;
	}
	if (fragments > BUFFERS_MAX) /* all but the last are of one size */
		sum = sum / BUFFERS_MAX * fragments;
	sum += 4 * fragments; /* lengths */
	/* The header's internal form names each atom in six bytes. On the wire that
	 * is one byte and a half. */
	bpf_probe_read_user(head, sizeof(head), (void *)sending(r, d->send_header));
	if (head[0] != VERSION_MAGIC)
		return sum;
	if (head[1] == DIST_HEADER) {
		n = head[3];
		size = 3;
	} else if (head[1] == DIST_FRAG_HEADER) {
		n = head[19];
		size = 19;
	} else {
		return sum;
	}
	if (n)
		size += n + n / 2 + 1;
	return sum + size - sending(r, d->send_header_size);
}

/* Where erts_dsig_send has encoded a message and goes on to sending it, which
 * happens once for each, however often it yields (dist.c, OTP 24 to 28). */
SEC("uprobe")
int distribution_sent(struct registers *ctx)
{
	struct distribution *d = settings();
	__u64 entry, bytes, fragments, in;
	struct message_record *r;
	__u32 connection;

	if (!d)
		return 0;
	r = take_record(RECORD_SENT, d);
	if (!r)
		return 0;
	SAVE_REGISTERS(ctx, r->saved);
	in = d->send_register;
	masked(in, 15);
	if (bpf_probe_read_user(r->sending, sizeof(r->sending), (void *)r->saved[in])) {
		count(COUNT_NOT_FOUND);
		r->busy = 0;
		return 0;
	}
	entry = sending(r, d->send_entry);
	connection = sending(r, d->send_connection);
	fragments = sending(r, d->send_fragments);
	bytes = message_bytes(r, d, fragments);
	r->h.node = add_traffic(d, entry, connection, SENT, 1, fragments, bytes);
	r->h.entry = entry;
	r->h.connection = connection;
	r->h.bytes = bytes;
	r->h.fragment = fragments;
	r->h.process = sending(r, d->send_process);
	r->h.control = sending(r, d->send_control);
	r->h.term = sending(r, d->send_message);
	copy_sender(r, d);
	copy_terms(r);
	copy_request(r);
	output(ctx, r);
	return 0;
}

static __always_inline __u64 big_endian(const __u8 *b)
{
	__u64 value = 0;
	int i;

#pragma unroll
	for (i = 0; i < 8; i++)
		value = value << 8 | b[i];
	return value;
}

static __always_inline __u8 byte_at(struct message_record *r, __u64 at)
{
	masked(at, DATA_MAX - 1);
	return r->data[at];
}

/* Copies the atoms that a message's header names by number, as the VM has them
 * now: one that the header brings along gets its number only afterwards. There
 * is no branch in the loop, so that the verifier walks it once. */
static __always_inline void copy_atoms(struct message_record *r, __u64 at, __u64 known)
{
	__u64 flags = at + 1, n = byte_at(r, at), start = r->h.payload, entry, index, length, is_new, wide, to;
	int i;

	at = flags + n / 2 + 1;
	wide = byte_at(r, flags + n / 2) >> ((n & 1) * 4) & 1;
	for (i = 0; i < ATOMS_MAX; i++) {
		if (i >= n)
			break;
		entry = byte_at(r, flags + i / 2) >> ((i & 1) * 4);
		is_new = entry >> 3 & 1;
		index = (entry & 7) << 8 | byte_at(r, at);
		length = byte_at(r, at + 1);
		length = (length << 8 * wide) + wide * byte_at(r, at + 2) + 1 + wide;
		at += 1 + is_new * length;
		to = start + i * 8;
		masked(to, DATA_MAX - 8);
		bpf_probe_read_user(&r->data[to], 8, (void *)(known + index * 8));
	}
	if (n > ATOMS_MAX)
		n = ATOMS_MAX;
	r->h.atoms_length = n * 8;
	r->h.payload += n * 8;
}

/* erts_net_message(Port *, DistEntry *, Uint32 conn_id, byte *hbuf, hlen,
 * Binary *, byte *buf, len) gets every packet, after TLS (dist.c, OTP 23 to 28). */
SEC("uprobe")
int distribution_received(struct registers *ctx)
{
	struct distribution *d = settings();
	__u64 entry = ARGUMENT_2(ctx), buffer[2], length, cache = 0, at = 0, node, sequence = 0, fragment = 1;
	__u32 connection = ARGUMENT_3(ctx);
	struct message_record *r;
	__u8 head[18] = {};

	if (!d || arguments_7_8(ctx, buffer) || !buffer[1])
		return 0; /* without a length it is a tick */
	length = buffer[1];
	if (length < sizeof(head))
		bpf_probe_read_user(head, 2, (void *)buffer[0]);
	else
		bpf_probe_read_user(head, sizeof(head), (void *)buffer[0]);
	if (head[0] == VERSION_MAGIC && head[1] == DIST_HEADER)
		at = 2;
	if (head[0] == VERSION_MAGIC && (head[1] == DIST_FRAG_HEADER || head[1] == DIST_FRAG_CONT)) {
		at = 18;
		sequence = big_endian(head + 2);
		fragment = big_endian(head + 10);
	}
	node = add_traffic(d, entry, connection, RECEIVED, head[1] != DIST_FRAG_CONT || head[0] != VERSION_MAGIC, 1, length + 4);
	r = take_record(RECORD_RECEIVED, d);
	if (!r)
		return 0;
	r->h.entry = entry;
	r->h.connection = connection;
	r->h.node = node;
	r->h.bytes = length + 4;
	r->h.sequence = sequence;
	r->h.fragment = fragment;
	if (length > MESSAGE_MAX)
		length = MESSAGE_MAX;
	if (head[1] != DIST_FRAG_CONT && append(r, buffer[0], length)) {
		r->h.data_length = length;
		r->h.payload = (length + 7) & ~7ULL;
		bpf_probe_read_user(&cache, 8, (void *)(entry + d->entry_cache));
		if (at && cache)
			copy_atoms(r, at, cache + d->cache_in);
	}
	output(ctx, r);
	return 0;
}

/* So that the generated Go code knows the type. */
const struct heap_term *unused_heap_term __attribute__((unused));
const struct message *unused_message __attribute__((unused));

char LICENSE[] SEC("license") = "Dual BSD/GPL";
