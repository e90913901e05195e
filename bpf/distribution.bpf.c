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
#define PROCESS_WORDS 8    /* of it, what is passed on */
#define SENDING_SIZE 384   /* of struct erts_dsig_send_context, what is read */
#define PACKET_SIZE 256    /* of what is sent: the first buffer, its vector and the header follow each other */
#define RECENT_MAX 2048    /* of the heap, what was made last; keep a power of two */
#define STACK_MAX 2048     /* of the Erlang stack, at its root and at its top */
#define MESSAGE_MAX 1024   /* of a message received */
#define ATOMS_MAX 32       /* numbered atoms of a message received: its head has the first ones */
#define BUFFERS_MAX 32     /* packets of a message sent whose sizes are added up */
#define TERM_WORDS 6       /* a tuple's header and its first elements, or a list cell */
#define ARGUMENTS_MAX 4    /* of what is spawned */
#define ROOT_WORDS 24      /* of the stack at its root, that may point to a request */
#define REQUEST_MAX 8      /* of these, those that are looked at; keep a power of two */
#define MEMO_SLOTS 64      /* atoms of a connection that are remembered; keep a power of two */
#define DATA_MAX 8192      /* payload without slack; keep a power of two */

#define NOT_NEAR (RECENT_MAX + SENDING_SIZE)

/* Tags of terms (erts/emulator/beam/erl_term.h, OTP 23 to 28). */
#define TAG_LIST 1
#define TAG_BOXED 2
#define TUPLE_HEADER(arity) ((__u64)(arity) << 6)
#define HEADER_MASK 0x3f /* 0 in the header of a tuple */
#define TAG_ATOM 0x0b    /* of the low six bits */

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
	__u32 process_htop, process_stop, process_heap, process_hend;
	__u32 generation; /* changes with what is known of the VM */
	__u32 process_words[PROCESS_WORDS];
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
	__u64 node;  /* atom */
	__u64 cache; /* address of the connection's atom cache, or 0 */
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct traffic_key);
	__type(value, struct traffic);
} carried SEC(".maps");

/* Atoms that a connection's cache holds, as they were read before, since reading
 * costs much. They are forgotten when the cache changes. */
struct memo {
	__u32 generation, pad;
	struct { __u64 number, atom; } slots[MEMO_SLOTS]; /* in the cache, from 1 on */
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, struct traffic_key);
	__type(value, struct memo);
} memos SEC(".maps");

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
	__u64 words[PROCESS_WORDS]; /* sent: of the process */
	/* Lengths in bytes of the parts of the payload, in their order. */
	__u32 root_length, top_length, terms_length, data_length, atoms_length, pad3;
};
struct message_record {
	struct message h;
	__u8 data[DATA_MAX + PAGE_SIZE];
	/* What follows is not part of what is sent. */
	/* Sent: the heap's last words and what is sent, whose terms need no reading. */
	__u64 near[NOT_NEAR / 8 + TERM_WORDS];
	__u64 recent, recent_length; /* address of the former */
	__u64 context;               /* address of the latter */
	__u8 packet[PACKET_SIZE + 24];
	__u64 process[PROCESS_SIZE / 8];
	struct memo none;
	__u64 saved[16]; /* registers */
	__u64 request[REQUEST_MAX]; /* words that may point to it */
	volatile __u64 unfollowed; /* a value in memory, which the verifier does not follow */
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

/* Counts a packet or message. Returns what is counted of the connection, or 0. */
static __always_inline struct traffic *add_traffic(const struct distribution *d, __u64 entry,
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
	return t;
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
	return r->process[(offset & (PROCESS_SIZE - 1)) >> 3];
}

/* Copies the process that sends and its Erlang stack. The code that sends has
 * stored where the stack is, and its return address is next to the base of the
 * scheduler's C stack. */
static __always_inline void copy_sender(struct message_record *r, const struct distribution *d)
{
	__u32 tid = r->h.tid;
	__u64 *base, stop, heap, hend, length, htop;
	int i;

	r->recent_length = 0;
	if (!r->h.process)
		return;
	base = bpf_map_lookup_elem(&stacks, &tid);
	if (bpf_probe_read_user(r->process, sizeof(r->process), (void *)r->h.process)) {
		r->h.process = 0;
		return;
	}
#pragma unroll
	for (i = 0; i < PROCESS_WORDS; i++)
		r->h.words[i] = process_field(r, d->process_words[i]);
	if (base)
		bpf_probe_read_user(&r->h.leaf, 8, (void *)(*base - 8));
	stop = process_field(r, d->process_stop);
	heap = process_field(r, d->process_heap);
	hend = process_field(r, d->process_hend);
	htop = process_field(r, d->process_htop);
	if (hend <= heap || stop < heap || stop > hend || (hend & 7) || (stop & 7))
		return;
	length = htop - heap;
	if (htop < heap || htop > stop)
		length = 0;
	if (length > RECENT_MAX)
		length = RECENT_MAX;
	opaque(length);
	if (length <= RECENT_MAX && !bpf_probe_read_user(r->near, length, (void *)(htop - length))) {
		r->recent = htop - length;
		r->recent_length = length;
	}
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
 * pid of another node, and returns it, or 0. What is copied behind its end means
 * nothing. */
static __always_inline struct heap_term *copy_term(struct message_record *r, __u64 word)
{
	__u64 at = r->h.payload, address = word & ~7ULL, offset;
	struct heap_term *term;
	int i;

	if ((word & 3) - TAG_LIST > TAG_BOXED - TAG_LIST || at >= DATA_MAX)
		return 0;
	masked(at, DATA_MAX - 8);
	term = (struct heap_term *)&r->data[at];
	offset = address - r->recent;
	if (offset >= r->recent_length) {
		offset = address - r->context;
		if (offset < SENDING_SIZE)
			offset += RECENT_MAX;
		else
			offset = NOT_NEAR;
	}
	if (offset < NOT_NEAR) {
		offset >>= 3;
		masked(offset, 2 * RECENT_MAX / 8 - 1);
		if (offset > NOT_NEAR / 8)
			return 0;
#pragma unroll
		for (i = 0; i < TERM_WORDS; i++)
			term->words[i] = r->near[offset + i];
	} else if (bpf_probe_read_user(term->words, sizeof(term->words), (void *)address) &&
		   /* Behind the last term of a block of memory there may be nothing. */
		   bpf_probe_read_user(term->words, 16, (void *)address)) {
		return 0;
	}
	term->term = word;
	r->h.payload += sizeof(*term);
	return term;
}

static __always_inline int is_list(const struct heap_term *term)
{
	return term && (term->term & 3) == TAG_LIST;
}

static __always_inline int is_tuple(const struct heap_term *term)
{
	return term && (term->term & 3) == TAG_BOXED && !(term->words[0] & HEADER_MASK);
}

/* The element n of a tuple, or 0, which is no term, if it has no so many. */
static __always_inline __u64 element(const struct heap_term *term, __u64 n)
{
	__s64 beyond = n - 1 - (term->words[0] >> 6);

	return term->words[n] & beyond >> 63;
}

/* Copies what a call or reply is told by: a reference, or [alias | Reference]. */
static __always_inline void copy_tag(struct message_record *r, __u64 word)
{
	struct heap_term *tag = copy_term(r, word);

	if (is_list(tag))
		copy_term(r, tag->words[1]);
}

/* Copies the control message, and what tells the kind of the message. */
static __always_inline void copy_terms(struct message_record *r)
{
	struct heap_term *term = copy_term(r, r->h.control), *from;
	int i;

	if (is_tuple(term)) {
		copy_term(r, element(term, 2));
		copy_term(r, element(term, 3));
		copy_term(r, element(term, 4));
		copy_term(r, element(term, 5));
	}
	term = copy_term(r, r->h.term);
	for (i = 1; i < ARGUMENTS_MAX && is_list(term); i++)
		term = copy_term(r, term->words[1]);
	if (!is_tuple(term))
		return;
	copy_tag(r, element(term, 1));
	from = copy_term(r, element(term, 2));
	if (is_tuple(from) && from->words[0] == TUPLE_HEADER(2))
		copy_tag(r, from->words[2]);
	copy_term(r, element(term, 3));
}

/* Tells whether a tuple is one that a request may travel in: all of these begin
 * with an atom, and are not larger. */
static __always_inline int is_wrapper(const struct heap_term *term)
{
	return is_tuple(term) && term->words[0] - TUPLE_HEADER(2) <= TUPLE_HEADER(1) &&
	       (term->words[1] & 0x3f) == TAG_ATOM;
}

/* Copies what the words at the root of the stack point to, and what is in that:
 * the request that the process handles is there, if it is a server. The words are
 * looked for first, in a loop of their own, which the verifier walks often. */
static __always_inline void copy_request(struct message_record *r)
{
	__u64 at, word, n;
	struct heap_term *term;
	int i;

	r->unfollowed = 0;
	for (i = 2; i < ROOT_WORDS; i++) {
		n = r->unfollowed;
		if (i * 8 > r->h.root_length || n >= REQUEST_MAX)
			break;
		at = r->h.root_length - i * 8;
		masked(at, DATA_MAX - 8);
		word = *word_at(r->data, at);
		masked(n, REQUEST_MAX - 1);
		r->request[n] = word;
		r->unfollowed += is_zero((word & 3) ^ TAG_BOXED);
	}
	for (i = 0; i < REQUEST_MAX; i++) {
		if (i >= r->unfollowed)
			break;
		term = copy_term(r, r->request[i]);
		if (!is_wrapper(term))
			continue;
		copy_term(r, element(term, 2));
		copy_term(r, element(term, 3));
	}
}

static __always_inline __u64 sending(struct message_record *r, __u32 offset)
{
	offset >>= 3;
	if (offset >= SENDING_SIZE / 8)
		return 0;
	return r->near[RECENT_MAX / 8 + offset];
}

/* The bytes of a packet of a message sent. */
static __always_inline __u64 buffer_bytes(const struct distribution *d, __u64 buffer)
{
	__u64 vector = 0, size = 0;

	bpf_probe_read_user(&vector, 8, (void *)buffer);
	bpf_probe_read_user(&size, 8, (void *)(vector + d->vector_bytes));
	return size;
}

/* The same of the first packet, of which most was read at once. */
static __always_inline __u64 first_bytes(struct message_record *r, const struct distribution *d,
					 __u64 buffers)
{
	__u64 at = d->buffer_vector, size = 0;

	masked(at, PACKET_SIZE - 8);
	at = *word_at(r->packet, at) + d->vector_bytes - buffers;
	if (at < PACKET_SIZE) {
		masked(at, PACKET_SIZE - 8);
		return *word_at(r->packet, at);
	}
	bpf_probe_read_user(&size, 8, (void *)(at + buffers));
	return size;
}

/* The bytes of a message on the wire, without those of atoms that are new to the
 * other end: that is known only when it is their turn. */
static __always_inline __u64 message_bytes(struct message_record *r, const struct distribution *d,
					   __u64 fragments)
{
	__u64 buffers = sending(r, d->send_buffers), size, sum, n, at;
	/* Behind a small message there may be nothing. */
	int whole = !bpf_probe_read_user(r->packet, PACKET_SIZE, (void *)buffers);
	const __u8 *head;
	int i;

	if (whole)
		size = first_bytes(r, d, buffers);
	else
		size = buffer_bytes(d, buffers + d->buffer_vector);
	sum = size;
	for (i = 1; i < BUFFERS_MAX; i++) {
		if (i >= fragments)
			break;
		size = buffer_bytes(d, buffers + i * d->buffer_size + d->buffer_vector);
		sum += size;
	}
	if (fragments > BUFFERS_MAX) { /* all but the last are of one size */
		sum += size * (fragments - 1 - BUFFERS_MAX);
		sum += buffer_bytes(d, buffers + (fragments - 1) * d->buffer_size + d->buffer_vector);
	}
	sum += 4 * fragments; /* lengths */
	/* The header's internal form names each atom in six bytes. On the wire that
	 * is one byte and a half. */
	at = sending(r, d->send_header) - buffers;
	if (!whole || at >= PACKET_SIZE - 20) {
		bpf_probe_read_user(&r->packet[PACKET_SIZE], 20, (void *)(at + buffers));
		at = PACKET_SIZE;
	}
	if (at > PACKET_SIZE)
		return sum;
	head = &r->packet[at];
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
	__u64 entry, bytes, fragments, in, terms;
	struct message_record *r;
	struct traffic *t;
	__u32 connection;

	if (!d)
		return 0;
	r = take_record(RECORD_SENT, d);
	if (!r)
		return 0;
	SAVE_REGISTERS(ctx, r->saved);
	in = d->send_register;
	masked(in, 15);
	r->context = r->saved[in];
	if (bpf_probe_read_user(&r->near[RECENT_MAX / 8], SENDING_SIZE, (void *)r->context)) {
		count(COUNT_NOT_FOUND);
		r->busy = 0;
		return 0;
	}
	entry = sending(r, d->send_entry);
	connection = sending(r, d->send_connection);
	fragments = sending(r, d->send_fragments);
	bytes = message_bytes(r, d, fragments);
	t = add_traffic(d, entry, connection, SENT, 1, fragments, bytes);
	r->h.node = t ? t->node : 0;
	r->h.entry = entry;
	r->h.connection = connection;
	r->h.bytes = bytes;
	r->h.fragment = fragments;
	r->h.process = sending(r, d->send_process);
	r->h.control = sending(r, d->send_control);
	r->h.term = sending(r, d->send_message);
	copy_sender(r, d);
	terms = r->h.payload;
	copy_terms(r);
	copy_request(r);
	r->h.terms_length = r->h.payload - terms;
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

/* What is remembered of a connection's atoms, or 0. */
static __always_inline struct memo *find_memo(struct message_record *r, const struct distribution *d)
{
	struct traffic_key key = {.entry = r->h.entry, .connection = r->h.connection};
	struct memo *memo = bpf_map_lookup_elem(&memos, &key);

	if (memo && memo->generation == d->generation)
		return memo;
	r->none.generation = d->generation;
	bpf_map_update_elem(&memos, &key, &r->none, BPF_ANY);
	return bpf_map_lookup_elem(&memos, &key);
}

/* Copies the atoms that a message's header names by number, as the VM has them
 * now: one that the header brings along gets its number only afterwards. All are
 * read if known is not 0; otherwise they are what is remembered, and the result
 * tells whether all of them are. There is no branch in the loop, so that the
 * verifier walks it once. */
static __always_inline int copy_atoms(struct message_record *r, struct memo *memo, __u64 at, __u64 known)
{
	__u64 flags = at + 1, n = byte_at(r, at), start = r->h.payload, entry, index, length, is_new, wide, to, slot;
	__u64 changes = 0, other = 0;
	int i;

	at = flags + n / 2 + 1;
	wide = byte_at(r, flags + n / 2) >> ((n & 1) * 4) & 1;
	for (i = 0; i < ATOMS_MAX; i++) {
		if (i >= n)
			break;
		entry = byte_at(r, flags + i / 2) >> ((i & 1) * 4);
		is_new = entry >> 3 & 1;
		changes |= is_new;
		index = (entry & 7) << 8 | byte_at(r, at);
		length = byte_at(r, at + 1);
		length = (length << 8 * wide) + wide * byte_at(r, at + 2) + 1 + wide;
		at += 1 + is_new * length;
		slot = index;
		masked(slot, MEMO_SLOTS - 1);
		if (known) {
			memo->slots[slot].number = index + 1;
			bpf_probe_read_user(&memo->slots[slot].atom, 8, (void *)(known + index * 8));
		}
		other |= memo->slots[slot].number - (index + 1);
		to = start + i * 8;
		masked(to, DATA_MAX - 8);
		*word_at(r->data, to) = memo->slots[slot].atom;
	}
	if (!known && other)
		return 0;
	n = byte_at(r, flags - 1); /* the verifier knows too much of it */
	if (changes || n > ATOMS_MAX)
		memo->generation--;
	if (n > ATOMS_MAX)
		n = ATOMS_MAX;
	r->h.atoms_length = n * 8;
	r->h.payload += n * 8;
	return 1;
}

/* erts_net_message(Port *, DistEntry *, Uint32 conn_id, byte *hbuf, hlen,
 * Binary *, byte *buf, len) gets every packet, after TLS (dist.c, OTP 23 to 28). */
SEC("uprobe")
int distribution_received(struct registers *ctx)
{
	struct distribution *d = settings();
	__u64 entry = ARGUMENT_2(ctx), buffer[2], length, copied, at = 0, sequence = 0, fragment = 1;
	__u32 connection = ARGUMENT_3(ctx);
	struct message_record *r;
	struct traffic *t;
	struct memo *memo;
	int further = 0;

	if (!d || arguments_7_8(ctx, buffer) || !buffer[1])
		return 0; /* without a length it is a tick */
	r = take_record(RECORD_RECEIVED, d);
	if (!r) {
		d->generation++; /* it may bring along atoms */
		return 0;
	}
	length = buffer[1];
	copied = length;
	if (copied > MESSAGE_MAX)
		copied = MESSAGE_MAX;
	*(__u64 *)r->data = 0;
	if (!append(r, buffer[0], copied))
		copied = 0;
	if (r->data[0] == VERSION_MAGIC && r->data[1] == DIST_HEADER)
		at = 2;
	if (r->data[0] == VERSION_MAGIC && copied >= 18 &&
	    (r->data[1] == DIST_FRAG_HEADER || r->data[1] == DIST_FRAG_CONT)) {
		at = 18;
		sequence = big_endian(r->data + 2);
		fragment = big_endian(r->data + 10);
		further = r->data[1] == DIST_FRAG_CONT;
	}
	t = add_traffic(d, entry, connection, RECEIVED, !further, 1, length + 4);
	r->h.entry = entry;
	r->h.connection = connection;
	r->h.node = t ? t->node : 0;
	r->h.bytes = length + 4;
	r->h.sequence = sequence;
	r->h.fragment = fragment;
	r->h.payload = 0;
	if (!further) {
		r->h.data_length = copied;
		r->h.payload = (copied + 7) & ~7ULL;
		if (t && !t->cache)
			bpf_probe_read_user(&t->cache, 8, (void *)(entry + d->entry_cache));
		if (at && t && t->cache) {
			memo = find_memo(r, d);
			r->unfollowed = at;
			at = r->unfollowed;
			if (memo && !copy_atoms(r, memo, at, 0))
				copy_atoms(r, memo, at, t->cache + d->cache_in);
		}
	}
	output(ctx, r);
	return 0;
}

/* So that the generated Go code knows the type. */
const struct heap_term *unused_heap_term __attribute__((unused));
const struct message *unused_message __attribute__((unused));

char LICENSE[] SEC("license") = "Dual BSD/GPL";
