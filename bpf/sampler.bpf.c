//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// One sample per tick of a perf event: registers, kernel stack, and raw copies
// of the C stack, the running process, its Erlang stack and the terms its root
// frames point to. All meaning is made in user space; see docs/internals.md.
#include "beamprof.h"

/* A thread of a VM that has scheduler data. */
struct scheduler {
	__u64 data;      /* its ErtsSchedulerData */
	__u64 registers; /* base of its C stack while JIT code runs, 0 without one */
};

#define KERNEL_STACK_MAX (64 * 8)
#define PROCESS_SIZE 512 /* the head of struct process; keep a power of two */
#define BOUNDARY_SIZE 64 /* enough for the return address into JIT code */
#define BOUNDARY_MAX PAGE_SIZE
#define C_STACK_MAX (3 * PAGE_SIZE)
#define SCHEDULER_STACK_MAX (1 << 20) /* C stacks of schedulers are not larger */
#define USER_BITS 48       /* of an address of user memory, at most */
#define BASE_WORDS 32      /* of the C stack next to its base, searched for a process */
#define DECODE_WORDS 96    /* and for decoding, */
#define DECODE_SAVED 6     /* and registers that are saved right below it */
#define DECODE_POINTED 64  /* bytes they point to */
#define ERLANG_ROOT_MAX PAGE_SIZE
#define ERLANG_TOP_MAX PAGE_SIZE
#define ERLANG_DEEPER 512  /* copied below what is taken for the stack's top */
#define TERM_WORDS 5       /* a tuple's header and its first four elements */
#define TERM_SCAN_WORDS 72 /* words below hend searched for tuples, */
#define TERM_SCAN_STEP 24  /* those next to the root first, with all that is in them */
#define TERMS_MAX 56
#define TERMS_NESTED 8     /* of the copied terms, those looked into for each tail call */

#define CALLERS_MAX 3      /* how far the chain of callers is followed */
#define CALLER_STACK_MAX 2048

#define DATA_MAX 32768 /* payload without slack; keep a power of two */

/* What a term points to: a tuple's header and first elements, or a list cell. */
struct term {
	__u64 term;
	__u64 words[TERM_WORDS];
};

/* Tags of terms (erts/emulator/beam/erl_term.h, OTP 23 to 28). Pointers to
 * literals have bit 2 set as well. */
#define TAG_LIST 1
#define TAG_BOXED 2
#define TAG_PID 3 /* low four bits: a pid of this node */
#define ARITY_BITS 24      /* MAX_ARITYVAL is 0xffffff */
#define ATOM_SHIFT 6       /* an atom's index is above it */
#define POINTER(term) ((void *)((term) & ~7ULL))

/* A process in the chain of callers; its stack and terms follow. */
struct caller {
	__u64 process; /* its address */
	__u64 stack;   /* address of the copy of its stack, next to the root */
	__u32 stack_length, terms_length;
	__u8 head[PROCESS_SIZE];
};

/* Flags of a sample. */
#define SAMPLE_KERNEL 1       /* the tick hit kernel code */
#define SAMPLE_NO_REGISTERS 2 /* the user registers could not be found */
#define SAMPLE_IDENTITY 4     /* identity holds what was read */
#define SAMPLE_ENDED 8        /* the process is no longer the scheduler's current one: it may be freed by now */

struct header {
	__u32 type; /* RECORD_SAMPLE */
	__u32 flags;
	__u64 time; /* CLOCK_MONOTONIC, ns */
	__u32 pid, tid, cpu, pad;
	__u64 payload; /* bytes after the header */
	struct registers regs;
	__u64 process; /* address of the current Process, or 0 */
	__u64 port;    /* address of the current Port, or 0 */
	__u64 scheduler;
	__u64 boundary;     /* address of the copy below the C stack's base */
	__u64 c_stack;      /* address of the C stack copy */
	__u64 erlang_root;  /* address of the Erlang stack's root copy */
	__u64 erlang_top;   /* address of the Erlang stack's top copy */
	__u64 identity[3];  /* module, function, arity of $initial_call */
	__u64 registered;   /* the atom it is registered as, or 0 */
	__u8 comm[16];      /* the thread's name, unless it is a scheduler's */
	/* Lengths in bytes of the parts of the payload, in their order. */
	__u32 process_length, kernel_length, boundary_length, c_stack_length,
		decode_length, root_length, top_length, terms_length, callers_length, pad2;
};

/* The stack whose terms are copied next; not part of what is sent. */
struct work {
	__u64 base;       /* of the C stack, 0 without one */
	__u64 at, length; /* where its copy is in the payload */
	__u64 hend;       /* address of its end */
	__u64 bottom;     /* address of its last word in use */
	__u64 pid;        /* whose it is */
	__u64 waits;      /* pid of the process that waits for it, or 0 */
	__u64 scanned;    /* bytes from hend down that were searched for terms */
	__u64 terms;      /* where its terms are in the payload */
	__u64 nested;     /* where the next term to be looked into is */
	__u64 caller;     /* where the struct caller is in the payload */
	__u64 unreadable; /* words that point to what cannot be read */
	__u64 callers;    /* steps made in the chain of callers */
};

struct record {
	struct header h;
	__u8 data[DATA_MAX + PAGE_SIZE];
	struct work work;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536); /* set when it is loaded */
	__uint(map_flags, 0);
	__type(key, __u32); /* tid */
	__type(value, struct scheduler);
} schedulers SEC(".maps");

/* Where a record is put together; too large for a per-CPU map (32 KiB). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* the number of CPUs, set when it is loaded */
	__type(key, __u32);
	__type(value, struct record);
} scratch SEC(".maps");

/* How often the identity of a process was looked for: it is not there yet in the
 * first microseconds of a process. */
#define IDENTITY_ATTEMPTS 16
#define IDENTITY_CHAIN 8 /* pairs of a slot that are looked at */
struct identity_key {
	__u64 pid; /* the operating system's tgid */
	__u64 id;  /* the Erlang pid, as a term */
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct identity_key);
	__type(value, __u64); /* how often it was looked for */
} identified SEC(".maps");

/* Where the kernel keeps task_struct.stack, found at run time: no BTF needed. */
struct kernel {
	__u64 task_stack_offset;
	__u64 top_padding;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kernel);
} kernels SEC(".maps");

/* Programs that others end in: the sampling is cut into pieces, so that the
 * verifier walks each of them, and each loop, once and not by every way there. */
enum program { PROGRAM_MATCH, PROGRAM_PROCESS, PROGRAM_TERMS, PROGRAM_NESTED, PROGRAMS };
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, PROGRAMS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} programs SEC(".maps");

/* Counters, summed over CPUs by user space. */
enum counter { COUNT_OUTPUT_FAILED, COUNTERS };
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &which);

	if (value)
		*value += 1;
}

/* Reads the user registers from the top of a kernel stack. */
static __always_inline int read_registers(struct registers *regs, __u64 stack,
					  __u64 padding)
{
	__u64 at = stack + THREAD_SIZE - sizeof(*regs) - padding;

	if (bpf_probe_read_kernel(regs, sizeof(*regs), (void *)at))
		return 0;
	return REGISTERS_USER(regs) && REGISTERS_SP(regs) != 0;
}

/* The user registers of a thread that is in the kernel lie at the top of its
 * kernel stack. The stack is known from the stack pointer, unless an interrupt
 * stack is in use; so the place of task_struct.stack is learned from the first
 * samples that are not on one. */
static __always_inline int user_registers(struct perf_event_context *ctx,
					  struct registers *regs)
{
	__u32 zero = 0;
	struct kernel *k = bpf_map_lookup_elem(&kernels, &zero);
	__u64 task = bpf_get_current_task();
	__u64 stack = REGISTERS_SP(&ctx->regs) & ~((__u64)THREAD_SIZE - 1);
	__u64 word, padding;
	int i;

	if (!k)
		return 0;
	if (k->task_stack_offset) {
		if (bpf_probe_read_kernel(&stack, sizeof(stack),
					  (void *)(task + k->task_stack_offset)))
			return 0;
		return read_registers(regs, stack, k->top_padding);
	}
	padding = TOP_PADDING_1;
	if (!read_registers(regs, stack, padding)) {
		padding = TOP_PADDING_2;
		if (!read_registers(regs, stack, padding))
			return 0;
	}
	for (i = 1; i < 16; i++) {
		word = 0;
		bpf_probe_read_kernel(&word, sizeof(word), (void *)(task + i * 8));
		if (word == stack) {
			k->top_padding = padding;
			k->task_stack_offset = i * 8;
			break;
		}
	}
	return 1;
}

/* Appends length (at most a page) bytes of user memory to the payload. */
static __always_inline int append(struct record *r, __u64 from, __u64 length)
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

static __always_inline __u64 payload_word(struct record *r, __u64 at)
{
	masked(at, DATA_MAX - 8);
	return *word_at(r->data, at);
}

/* Copies the C stack from the stack pointer up, at most to limit, page by page
 * so that the end of the mapping ends the copy and loses nothing before it. */
static __always_inline void copy_c_stack(struct record *r, __u64 sp, __u64 limit)
{
	__u64 at = sp - RED_ZONE, end, start = r->h.payload;
	int i;

	if (!limit || limit - at > C_STACK_MAX)
		limit = at + C_STACK_MAX;
	r->h.c_stack = at;
	for (i = 0; i < 4; i++) {
		end = (at | (PAGE_SIZE - 1)) + 1;
		if (end > limit)
			end = limit;
		if (end <= at || !append(r, at, end - at))
			break;
		at = end;
	}
	r->h.c_stack_length = r->h.payload - start;
}

/* Copies what lies right below the base of a scheduler's C stack: the return
 * address into JIT code, and of a deep stack the frames next to it. A few of the
 * VM's functions have frames of 16 KiB and more (erts_net_message, those that
 * decode terms), of which only the ends matter. */
static __always_inline void copy_boundary(struct record *r, __u64 base, __u64 length)
{
	if (!base || !append(r, base - length, length))
		return;
	r->h.boundary = base - length;
	r->h.boundary_length = length;
}

/* Finds in the payload the end of what was copied of the C stack next to its base,
 * and returns how much that is. */
static __always_inline __u64 find_base(struct record *r, __u64 *end)
{
	__u64 at = r->h.process_length + r->h.kernel_length + r->h.boundary_length;
	__u64 length = r->h.boundary_length;

	if (!length) {
		length = r->h.c_stack_length;
		at += length;
	}
	masked(at, 2 * DATA_MAX - 1); /* the verifier knows the same of both */
	masked(length, 2 * DATA_MAX - 1);
	*end = at;
	return length;
}

/* A process decodes a message when it takes it. Which node it is from is told by
 * what the VM's decoding function (erts_decode_dist_ext) works on. It keeps that
 * in a register, which the function that it calls saves right below the return
 * address. All that was saved there is followed: user space knows the nodes. */
static __always_inline void copy_decoding(struct record *r, const struct target *t)
{
	__u64 start = r->h.payload, end, length, at = 0, word;
	int i;

	length = find_base(r, &end);
	for (i = 1; i <= DECODE_WORDS; i++) {
		if (i * 8 > length)
			return;
		at = end - i * 8;
		masked(at, DATA_MAX - 8);
		if (*word_at(r->data, at) - t->decode < t->decode_length)
			break;
	}
	if (i > DECODE_WORDS)
		return;
	for (i = 0; i < DECODE_SAVED; i++) {
		at -= 8;
		masked(at, DATA_MAX - 8);
		word = *word_at(r->data, at);
		if (!(word & 7))
			append(r, word, DECODE_POINTED);
	}
	r->h.decode_length = r->h.payload - start;
}

static __always_inline __u64 field(struct record *r, __u32 offset)
{
	return *word_at(r->data, offset & (PROCESS_SIZE - 8));
}

/* Reads {key, {M, F, A}} if it has that key. While garbage is collected a tuple's
 * header may be the address it was moved to; its elements are still there. */
static __always_inline int read_pair(struct header *h, __u64 term, __u64 key)
{
	__u64 words[3], header = 0;

	if ((term & 3) != TAG_BOXED ||
	    bpf_probe_read_user(words, sizeof(words), POINTER(term)) ||
	    words[1] != key || (words[2] & 3) != TAG_BOXED)
		return 0;
	term = words[2];
	bpf_probe_read_user(&header, 8, POINTER(term));
	if ((header & 3) == TAG_BOXED)
		bpf_probe_read_user(&header, 8, POINTER(header));
	if (header != (3 << 6))
		return 0;
	return !bpf_probe_read_user(h->identity, sizeof(h->identity), POINTER(term) + 8);
}

/* The $initial_call that proc_lib keeps in the process dictionary: read in the
 * first samples of a process, here, as the process may be gone when user space looks. */
static __always_inline void read_identity(struct record *r, const struct target *t)
{
	struct identity_key key = {.pid = r->h.pid, .id = field(r, t->process_id)};
	__u64 dictionary = field(r, t->process_dictionary), slot, term = 0, cell[2];
	__u64 *known, first = 1;
	__u32 mask = 0, size = 0;
	int i;

	if (!dictionary)
		return;
	known = bpf_map_lookup_elem(&identified, &key);
	if (known) {
		if (*known >= IDENTITY_ATTEMPTS)
			return;
		*known += 1;
	} else {
		bpf_map_update_elem(&identified, &key, &first, BPF_ANY);
	}
	/* Linear hashing by the atom's index (erts/emulator/beam/erl_process_dict.c). */
	bpf_probe_read_user(&mask, sizeof(mask), (void *)(dictionary + t->dictionary_mask));
	bpf_probe_read_user(&size, sizeof(size), (void *)(dictionary + t->dictionary_size));
	slot = (t->initial_call >> ATOM_SHIFT) & mask;
	if (slot >= size)
		slot &= mask >> 1;
	bpf_probe_read_user(&term, 8, (void *)(dictionary + t->dictionary_slots + slot * 8));
	/* A pair, or a list of pairs, whose cells may have been moved like tuples. */
	for (i = 0; i < IDENTITY_CHAIN; i++) {
		cell[0] = term;
		cell[1] = 0;
		if ((term & 3) == TAG_LIST &&
		    bpf_probe_read_user(cell, sizeof(cell), POINTER(term)))
			break;
		if (read_pair(&r->h, cell[0], t->initial_call)) {
			r->h.flags |= SAMPLE_IDENTITY;
			break;
		}
		term = cell[1];
	}
}

/* Tells whether the collector moved what a term points to: where it is now stands
 * in place of a tuple's header, or behind a 0 in place of a list's head. */
static __always_inline __u64 was_moved(__u64 word, __u64 first)
{
	__u64 boxed = is_zero((word & 3) ^ TAG_BOXED);

	return boxed * is_zero((first & 3) ^ TAG_BOXED) + (boxed ^ 1) * is_zero(first);
}

/* Copies what a term points to, if it is a tuple that is not empty, or the cell
 * of a list that begins with one, or was moved and may be one of these. There are
 * few branches on purpose: the verifier walks each one in every round of the loops
 * around this. What cannot be read is counted: such a word is no term, or not in
 * use. */
static __always_inline void copy_term(struct record *r, __u64 start, __u64 word)
{
	__u64 at = r->h.payload, first, room, failed, tuple, cell, size;
	struct term *term;

	if ((word & 3) - TAG_LIST > TAG_BOXED - TAG_LIST)
		return; /* most words: no pointer */
	/* there is room: at < DATA_MAX and at - start < TERMS_MAX * sizeof(struct term) */
	room = ((at - DATA_MAX) & (at - start - TERMS_MAX * sizeof(struct term))) >> 63;
	opaque(room);
	size = sizeof(term->words) * room;
	masked(size, 63);
	masked(at, DATA_MAX - 8);
	term = (struct term *)&r->data[at];
	failed = bpf_probe_read_user(term->words, size, POINTER(word));
	term->term += (word - term->term) * room; /* without room it is in use */
	first = term->words[0];
	/* the header of a tuple has the tag 0 below its arity */
	tuple = is_zero(((word & 3) ^ TAG_BOXED) | (first & 0x3f) | (((first >> 6) - 1) >> ARITY_BITS));
	cell = is_zero(((word & 3) ^ TAG_LIST) | ((first & 3) ^ TAG_BOXED));
	r->h.payload += (tuple + cell + was_moved(word, first)) * is_zero((room ^ 1) | failed) * sizeof(*term);
	r->work.unreadable += failed >> 63;
}

/* Copies the tuples that the words next to a stack's root point to: requests,
 * who asked, messages. They are on the heap and may move right after the tick. */
static __always_inline void copy_terms(struct record *r)
{
	struct work *w = &r->work;
	__u64 word;
	int i;

	w->unreadable = 0;
	for (i = 0; i < TERM_SCAN_STEP; i++) {
		w->scanned += 8;
		/* Below what is in use is what was; and a read that fails takes as
		 * long as twenty that do not. */
		if (w->scanned > w->length || w->hend - w->scanned < w->bottom || w->unreadable) {
			w->scanned = TERM_SCAN_WORDS * 8;
			break;
		}
		word = payload_word(r, w->at + w->length - w->scanned);
		copy_term(r, w->terms, word);
	}
}

/* Copies what is inside of the next few of the copied terms, and finds the
 * process that waits for this one. Returns whether there are more. */
static __always_inline int copy_nested(struct record *r)
{
	struct work *w = &r->work;
	__u64 at, arity, list, pair, triple, first, second, waits;
	struct term *term;
	int i;

	for (i = 0; i < TERMS_NESTED; i++) {
		at = w->nested;
		if (at >= r->h.payload)
			return 0; /* that is all for now */
		w->nested = at + sizeof(struct term);
		masked(at, DATA_MAX - 8);
		term = (struct term *)&r->data[at];
		if (was_moved(term->term, term->words[0])) {
			list = is_zero((term->term & 3) ^ TAG_LIST);
			bpf_probe_read_user(term->words, sizeof(term->words), POINTER(term->words[list]));
		}
		/* {call, From}, {'$gen_call', From, Request}, [{Type, Content} | _] */
		arity = term->words[0] >> 6;
		list = is_zero((term->term & 3) ^ TAG_LIST);
		pair = is_zero((arity ^ 2) | list);
		triple = is_zero((arity ^ 3) | list);
		first = term->words[0] * list + term->words[2] * (pair + triple);
		second = term->words[1] * pair + term->words[3] * triple;
		copy_term(r, w->terms, first);
		copy_term(r, w->terms, second);
		/* {Pid, Tag}, as the tuple From of a call to a generic server, Pid
		 * being another process of this node: the first one may be who waits.
		 * User space checks that it was in the right place. */
		waits = is_zero((term->words[0] ^ (2 << 6)) | ((term->words[1] & 0xf) ^ TAG_PID) |
				(((term->words[2] & 3) - TAG_LIST) & ~1ULL) | is_zero(term->words[1] ^ w->pid) | w->waits);
		w->waits += term->words[1] * waits;
	}
	return 1;
}

/* Copies a process that waits for the reply of the one before it: its head, and
 * its stack next to the root, which does not change while it waits. */
static __always_inline int copy_caller(struct record *r, const struct target *t, __u64 pid)
{
	__u64 slot = t->process_slots + ((pid >> t->pid_index_shift) & t->pid_index_mask) * 8;
	__u64 start = r->h.payload, at = start, process = 0, heap, hend, stop, length;
	struct caller *c;

	if (start > DATA_MAX - sizeof(*c))
		return 0;
	masked(at, DATA_MAX - 8);
	c = (struct caller *)&r->data[at];
	if (bpf_probe_read_user(&process, sizeof(process), (void *)slot) || !process ||
	    bpf_probe_read_user(c->head, sizeof(c->head), (void *)process) ||
	    *word_at(c->head, t->process_id & (PROCESS_SIZE - 8)) != pid)
		return 0;
	heap = *word_at(c->head, t->process_heap & (PROCESS_SIZE - 8));
	hend = *word_at(c->head, t->process_hend & (PROCESS_SIZE - 8));
	stop = *word_at(c->head, t->process_stop & (PROCESS_SIZE - 8));
	if (hend <= heap || stop < heap || stop > hend || (hend & 7))
		return 0;
	length = hend - stop;
	if (length > CALLER_STACK_MAX)
		length = CALLER_STACK_MAX;
	c->process = process;
	c->stack = hend - length;
	c->stack_length = length;
	c->terms_length = 0;
	r->h.payload = start + sizeof(*c);
	r->work.at = r->h.payload;
	if (!append(r, hend - length, length)) {
		r->h.payload = start;
		return 0;
	}
	r->work.length = length;
	r->work.hend = hend;
	r->work.bottom = stop;
	r->work.pid = pid;
	r->work.waits = 0;
	r->work.scanned = 0;
	r->work.terms = r->work.nested = r->h.payload;
	r->work.caller = start;
	r->work.callers++;
	return 1;
}

static __always_inline void copy_erlang(struct record *r, const struct target *t)
{
	__u64 heap = field(r, t->process_heap), hend = field(r, t->process_hend);
	__u64 htop = field(r, t->process_htop), top = field(r, t->process_stop);
	__u64 sp = REGISTERS_SP(&r->h.regs), fp = REGISTERS_FP(&r->h.regs);
	__u64 from, length, at, end, saved;
	int i;

	if (hend <= heap || (hend & 7) || hend - heap > (1ULL << 40))
		return;
	if (top < heap || top > hend) {
		/* The collector moved the stack and has not yet told where the
		 * new heap is: all there is is above the stack pointer. */
		top &= ~7ULL;
		r->h.erlang_top = top;
		at = r->h.payload;
		length = PAGE_SIZE;
		if (!append(r, top, length)) {
			length = PAGE_SIZE - (top & (PAGE_SIZE - 1));
			if (!append(r, top, length))
				return;
		}
		r->h.top_length = length;
		return;
	}
	if (sp >= heap && sp <= hend) {
		top = sp & ~7ULL; /* in JIT code the stack pointer is the Erlang stack's */
		from = top;
	} else {
		/* In C the VM may not have stored it. Then it is in the frame
		 * pointer register, or was saved right below the C stack's base.
		 * So may be the top of the heap, which lies below. */
		if (htop < heap)
			htop = heap;
		if (fp > htop && fp < top)
			top = fp;
		if (r->work.base && find_base(r, &end) >= BOUNDARY_SIZE) {
			fp = 0;
			for (i = 2; i <= BOUNDARY_SIZE / 8; i++) {
				saved = payload_word(r, end - i * 8);
				if (saved <= hend && saved > fp)
					fp = saved;
			}
			if (fp > htop && fp < top)
				top = fp;
		}
		top &= ~7ULL;
		/* What if it is deeper yet: some more of the page, but not of the
		 * one below, as one of a fresh heap that was never touched cannot be
		 * read, and trying to takes a fault. */
		from = top & ~(PAGE_SIZE - 1ULL);
		if (from < top - ERLANG_DEEPER)
			from = top - ERLANG_DEEPER;
		if (from < heap)
			from = heap;
	}
	length = hend - from;
	if (length < sizeof(__u64)) /* an empty stack is not the same as none */
		length = sizeof(__u64);
	if (length > ERLANG_ROOT_MAX)
		length = ERLANG_ROOT_MAX;
	at = r->h.payload;
	if (!append(r, hend - length, length)) {
		length = hend & (PAGE_SIZE - 1);
		if (!length || !append(r, hend - length, length))
			return;
	}
	r->h.erlang_root = hend - length;
	r->h.root_length = length;
	if (top < hend - length) {
		length = hend - length - top;
		if (length > ERLANG_TOP_MAX)
			length = ERLANG_TOP_MAX;
		if (append(r, top, length)) {
			r->h.erlang_top = top;
			r->h.top_length = length;
		}
	}
	r->work.at = at;
	r->work.length = r->h.root_length;
	r->work.hend = hend;
	r->work.bottom = top;
	r->work.pid = field(r, t->process_id);
	r->work.waits = 0;
	r->work.scanned = 0;
	r->work.terms = r->work.nested = r->h.payload;
	r->work.callers = 0;
}

static __always_inline void output(struct perf_event_context *ctx, struct record *r)
{
	__u64 length = sizeof(r->h) + r->h.payload;

	opaque(length);
	if (length > sizeof(r->h) + sizeof(r->data))
		length = sizeof(r->h) + sizeof(r->data);
	if (bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, r, length))
		count(COUNT_OUTPUT_FAILED);
}

SEC("perf_event")
int sample(struct perf_event_context *ctx)
{
	__u64 id = bpf_get_current_pid_tgid(), match = 0, sp, limit;
	__u32 tgid = id >> 32, tid = id, cpu = bpf_get_smp_processor_id();
	struct target *t = bpf_map_lookup_elem(&targets, &tgid);
	struct scheduler *s;
	struct record *r;
	long got;

	if (!t)
		return 0;
	__sync_fetch_and_add(&t->samples, 1);
	r = bpf_map_lookup_elem(&scratch, &cpu);
	if (!r)
		return 0;
	__builtin_memset(&r->h, 0, sizeof(r->h));
	r->h.type = RECORD_SAMPLE;
	r->h.time = bpf_ktime_get_ns();
	r->h.pid = tgid;
	r->h.tid = tid;
	r->h.cpu = cpu;
	s = bpf_map_lookup_elem(&schedulers, &tid);
	if (s) {
		r->h.scheduler = s->data;
		bpf_probe_read_user(&r->h.process, 8, (void *)(s->data + t->current_process));
		if (!r->h.process) {
			bpf_probe_read_user(&r->h.process, 8, (void *)(s->data + t->free_process));
			if (r->h.process)
				r->h.flags |= SAMPLE_ENDED;
		}
		bpf_probe_read_user(&r->h.port, 8, (void *)(s->data + t->current_port));
		if (r->h.process && append(r, r->h.process, PROCESS_SIZE))
			r->h.process_length = PROCESS_SIZE;
	} else { /* it may be gone when user space looks */
		bpf_get_current_comm(r->h.comm, sizeof(r->h.comm));
	}
	if (REGISTERS_USER(&ctx->regs)) {
		__builtin_memcpy(&r->h.regs, &ctx->regs, sizeof(r->h.regs));
	} else {
		r->h.flags |= SAMPLE_KERNEL;
		if (!user_registers(ctx, &r->h.regs))
			r->h.flags |= SAMPLE_NO_REGISTERS;
		got = bpf_get_stack(ctx, &r->data[r->h.process_length & PROCESS_SIZE],
				    KERNEL_STACK_MAX, 0);
		if (got > 0 && got <= KERNEL_STACK_MAX) {
			r->h.kernel_length = got;
			r->h.payload += got;
		}
	}
	sp = REGISTERS_SP(&r->h.regs);
	limit = s ? s->registers : 0;
	if (r->h.flags & SAMPLE_NO_REGISTERS) {
		copy_boundary(r, limit, BOUNDARY_SIZE);
	} else if (!limit || limit - sp <= SCHEDULER_STACK_MAX) { /* else on the Erlang stack */
		if (limit && limit - sp > C_STACK_MAX - RED_ZONE)
			copy_boundary(r, limit, BOUNDARY_MAX);
		copy_c_stack(r, sp, limit);
	}
	r->work.base = limit;
	if (r->h.process_length) {
		if (r->h.c_stack_length | r->h.boundary_length)
			bpf_probe_read_user(&match, sizeof(match), (void *)(r->h.scheduler + t->match_process));
		if (match == r->h.process)
			bpf_tail_call(ctx, &programs, PROGRAM_MATCH);
		bpf_tail_call(ctx, &programs, PROGRAM_PROCESS);
	}
	output(ctx, r);
	return 0;
}

/* While a match specification runs (db_prog_match), the scheduler's current
 * process is one that the VM made up for it, which has no pid and no stack. The
 * one that runs in truth is in a register that JIT code keeps it in, or the first
 * function that it called, which the next ones save near the C stack's base. It
 * is the only other one that has this scheduler. */
SEC("perf_event")
int sample_match(struct perf_event_context *ctx)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32, cpu = bpf_get_smp_processor_id();
	struct target *t = bpf_map_lookup_elem(&targets, &tgid);
	struct record *r = bpf_map_lookup_elem(&scratch, &cpu);
	__u64 end, length, word, scheduler;
	int i;

	if (!t || !r)
		return 0;
	length = find_base(r, &end);
	for (i = 1; i <= BASE_WORDS && i * 8 <= length; i++) {
		word = payload_word(r, end - i * 8);
		if ((word & 7) || (word - PAGE_SIZE) >> USER_BITS || word == r->h.process)
			continue; /* no pointer to user memory, or that one */
		scheduler = 0;
		bpf_probe_read_user(&scheduler, sizeof(scheduler), (void *)(word + t->process_scheduler));
		if (scheduler == r->h.scheduler) {
			r->h.process = word;
			bpf_probe_read_user(r->data, PROCESS_SIZE, (void *)word);
			break;
		}
	}
	bpf_tail_call(ctx, &programs, PROGRAM_PROCESS);
	output(ctx, r);
	return 0;
}

/* Copies what there is of the process: what it decodes, who it is, and its
 * Erlang stack. */
SEC("perf_event")
int sample_process(struct perf_event_context *ctx)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32, cpu = bpf_get_smp_processor_id();
	struct target *t = bpf_map_lookup_elem(&targets, &tgid);
	struct record *r = bpf_map_lookup_elem(&scratch, &cpu);
	__u64 registered;

	if (!t || !r)
		return 0;
	if (t->decode && r->h.c_stack_length)
		copy_decoding(r, t);
	registered = field(r, t->process_registered);
	if (registered)
		bpf_probe_read_user(&r->h.registered, 8, (void *)(registered + t->registered_name));
	read_identity(r, t);
	copy_erlang(r, t);
	if (r->h.root_length)
		bpf_tail_call(ctx, &programs, PROGRAM_TERMS);
	output(ctx, r);
	return 0;
}

/* Copies the terms next to the root of one stack: the sampled process's first,
 * then those of the processes that wait for it. */
SEC("perf_event")
int sample_terms(struct perf_event_context *ctx)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct record *r = bpf_map_lookup_elem(&scratch, &cpu);

	if (!r)
		return 0;
	copy_terms(r);
	bpf_tail_call(ctx, &programs, PROGRAM_NESTED);
	output(ctx, r);
	return 0;
}

/* Copies what is inside of those terms, and goes on with the next stack. */
SEC("perf_event")
int sample_nested(struct perf_event_context *ctx)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32, cpu = bpf_get_smp_processor_id();
	struct target *t = bpf_map_lookup_elem(&targets, &tgid);
	struct record *r = bpf_map_lookup_elem(&scratch, &cpu);
	__u64 pid, at;
	__u32 length;

	if (!t || !r)
		return 0;
	if (copy_nested(r))
		bpf_tail_call(ctx, &programs, PROGRAM_NESTED);
	/* Of a caller it is enough to know whom it works for. */
	if (r->work.scanned < TERM_SCAN_WORDS * 8 && !(r->work.callers && r->work.waits))
		bpf_tail_call(ctx, &programs, PROGRAM_TERMS);
	length = r->h.payload - r->work.terms;
	if (r->work.callers) {
		at = r->work.caller;
		masked(at, DATA_MAX - 8);
		((struct caller *)&r->data[at])->terms_length = length;
		r->h.callers_length += r->h.payload - at;
	} else {
		r->h.terms_length = length;
	}
	pid = r->work.waits;
	if (pid && r->work.callers < CALLERS_MAX && copy_caller(r, t, pid))
		bpf_tail_call(ctx, &programs, PROGRAM_TERMS);
	output(ctx, r);
	return 0;
}

/* So that the generated Go code knows the types. */
const struct term *unused_term __attribute__((unused));
const struct caller *unused_caller __attribute__((unused));

char LICENSE[] SEC("license") = "Dual BSD/GPL";
