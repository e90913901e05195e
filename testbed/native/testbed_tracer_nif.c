/* A tracer (erl_tracer behaviour) that notes when each process and port ran.
 *
 * Every event becomes one fixed-size record in a buffer shared by all scheduler
 * threads. A record holds the clock at its begin and at its end, so that the
 * tracer's own time can be left out. At the ends of a slice it also holds the
 * thread's CPU time, which takes a system call but stands still while the
 * kernel has preempted the thread: what the clock says more is not the slice's.
 *
 * The records are read back as terms by read/2 after the capture, in the order
 * in which they happened for each process and for each thread.
 */
#define _GNU_SOURCE
#include <erl_nif.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { IN, OUT, MARK, SENT };

typedef struct {
    ERL_NIF_TERM subject; /* a local pid or port: an immediate term */
    uint64_t begin, end; /* of the event, monotonic nanoseconds */
    uint64_t cpu;        /* in, out: CPU time of the thread, nanoseconds */
    ERL_NIF_TERM term[4]; /* immediates; in/out: module, function; mark: its arguments; sent: bytes */
    uint32_t kind, thread;
} record;

static struct {
    record *records;
    size_t capacity;
    atomic_size_t used;
    atomic_int on;
} capture;

static atomic_uint threads;
static _Thread_local uint32_t this_thread;

static ERL_NIF_TERM atom_ok, atom_trace, atom_discard, atom_trace_status, atom_call, atom_none;
static ERL_NIF_TERM atom_spawn, atom_rpc, atom_result, atom_cast, atom_reply, atom_alias, atom_sent, kind_atoms[4], in_atoms[2], out_atoms[3], atom_node;

static uint64_t now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* reserve returns a free record, or NULL when the buffer is full (counted in `used`). */
static record *reserve(uint32_t kind, ERL_NIF_TERM subject, uint64_t begin) {
    if (!atomic_load_explicit(&capture.on, memory_order_acquire)) return NULL;
    size_t i = atomic_fetch_add(&capture.used, 1);
    if (i >= capture.capacity) return NULL;
    record *r = &capture.records[i];
    if (!this_thread) this_thread = atomic_fetch_add(&threads, 1) + 1;
    r->subject = subject;
    r->begin = begin;
    r->cpu = 0;
    r->kind = kind;
    r->thread = this_thread;
    for (int i = 0; i < 4; i++) r->term[i] = atom_none;
    return r;
}

static int is_one_of(ERL_NIF_TERM tag, const ERL_NIF_TERM *set, int count) {
    for (int i = 0; i < count; i++)
        if (tag == set[i]) return 1;
    return 0;
}

/* enabled(Tag, State, Tracee) -> trace | discard */
static ERL_NIF_TERM nif_enabled(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)env, (void)argc;
    if (argv[0] == atom_trace_status || argv[0] == atom_call || is_one_of(argv[0], in_atoms, 2) ||
        is_one_of(argv[0], out_atoms, 3))
        return atom_trace;
    return atom_discard;
}

/* leaves_node tells whether a message to this receiver goes over the distribution. */
static int leaves_node(ErlNifEnv *env, ERL_NIF_TERM to) {
    const ERL_NIF_TERM *e;
    ErlNifPid pid;
    int arity;
    char text[16];
    if (enif_is_pid(env, to)) return !enif_get_local_pid(env, to, &pid);
    if (enif_get_tuple(env, to, &arity, &e)) return arity == 2 && e[1] != atom_node;
    if (!enif_is_ref(env, to)) return 0;
    enif_snprintf(text, sizeof text, "%T", to); /* an alias; local references print as #Ref<0. */
    return strncmp(text, "#Ref<0.", 7) != 0;
}

static size_t number(const unsigned char *at, int width) {
    size_t n = 0;
    while (width-- > 0) n = n << 8 | *at++;
    return n;
}

/* atoms are the different ones of a message, as far as they have room. */
typedef struct { const unsigned char *text[64]; size_t length[64]; int count; } atoms;

static void note_atom(atoms *known, const unsigned char *text, size_t length) {
    for (int i = 0; i < known->count; i++)
        if (known->length[i] == length && !memcmp(known->text[i], text, length)) return;
    if (known->count == 64) return;
    known->text[known->count] = text;
    known->length[known->count++] = length;
}

/* wire_size returns the bytes of a term between nodes, which know atoms by number
 * after the first time: two bytes each, and one and a half in the header for each
 * different one. b is the term in the External Term Format, whose tags tell how
 * far it is to the next one; of what is not known here the atoms count in full. */
static size_t wire_size(const unsigned char *b, size_t size) {
    atoms known = {.count = 0};
    size_t at = 1, text = 0; /* behind 131 */
    size_t behind = 0;       /* the atom that comes: of a pid, port or reference */
    while (at < size) {
        const unsigned char *p = b + at + 1;
        size_t left = size - at - 1, length = 0;
        switch (b[at]) {
        case 115: case 119: length = left < 1 ? 0 : p[0]; note_atom(&known, p + 1, length < left ? length : 0); at += 2 + length + behind; text += length; behind = 0; break;
        case 100: case 118: length = left < 2 ? 0 : number(p, 2); note_atom(&known, p + 2, length + 1 < left ? length : 0); at += 3 + length + behind; text += length + 1; behind = 0; break;
        case 88: at += 1, behind = 12; break;
        case 89: at += 1, behind = 8; break;
        case 120: at += 1, behind = 12; break;
        case 90: behind = left < 2 ? 0 : 4 + 4 * number(p, 2); at += 3; break;
        case 97: case 104: at += 2; break;
        case 98: case 105: case 108: case 116: at += 5; break;
        case 70: at += 9; break;
        case 106: case 113: at += 1; break;
        case 107: at += left < 2 ? 1 : 3 + number(p, 2); break;
        case 109: at += left < 4 ? 1 : 5 + number(p, 4); break;
        case 77: at += left < 4 ? 1 : 6 + number(p, 4); break;
        case 110: at += left < 1 ? 1 : 3 + p[0]; break;
        case 111: at += left < 4 ? 1 : 6 + number(p, 4); break;
        case 112: at += 1 + 4 + 1 + 16 + 4 + 4; break;
        default: return size - 1 - text;
        }
    }
    return size - 1 - text + known.count + (known.count + 1) / 2;
}

#define NUMBER(n) enif_make_int(env, n)
#define ATOM(text) enif_make_atom(env, text)

/* spawn_request returns the control message that starts module:function/arity on another node. */
static ERL_NIF_TERM spawn_request(ErlNifEnv *env, ERL_NIF_TERM ref, ERL_NIF_TERM sender, const char *module, const char *function, int arity, const char *option) {
    return enif_make_tuple6(env, NUMBER(29), ref, sender, sender, enif_make_tuple3(env, ATOM(module), ATOM(function), NUMBER(arity)),
                            enif_make_list1(env, ATOM(option)));
}

/* on_wire returns what is sent as it goes to another node: a tuple of the control
 * message and the message, for the kinds of testbed_truth:sent/3. */
static ERL_NIF_TERM on_wire(ErlNifEnv *env, ERL_NIF_TERM sender, ERL_NIF_TERM kind, ERL_NIF_TERM to, ERL_NIF_TERM message) {
    const ERL_NIF_TERM *e;
    int arity;
    ERL_NIF_TERM ref = enif_make_ref(env), tag = enif_make_list_cell(env, atom_alias, ref), control;
    if (kind == atom_spawn) {
        control = spawn_request(env, ref, sender, "erlang", "apply", 2, "link");
        message = enif_make_list2(env, message, enif_make_list(env, 0));
    } else if (kind == atom_rpc) { /* {M, F, A} */
        if (!enif_get_tuple(env, message, &arity, &e) || arity != 3) return message;
        control = spawn_request(env, ref, sender, "erpc", "execute_call", 4, "monitor");
        message = enif_make_list4(env, ref, e[0], e[1], e[2]);
    } else if (kind == atom_result) {
        control = enif_make_tuple4(env, NUMBER(28), sender, sender, ref);
        message = enif_make_tuple3(env, ref, ATOM("return"), message);
    } else if (kind == atom_reply) {
        control = enif_make_tuple3(env, NUMBER(33), sender, ref);
        message = enif_make_tuple2(env, tag, message);
    } else {
        if (enif_get_tuple(env, to, &arity, &e))
            control = enif_make_tuple4(env, NUMBER(6), sender, ATOM(""), e[0]);
        else
            control = enif_make_tuple3(env, NUMBER(22), sender, to);
        if (kind == atom_call)
            message = enif_make_tuple3(env, ATOM("$gen_call"), enif_make_tuple2(env, sender, tag), message);
        else if (kind == atom_cast)
            message = enif_make_tuple2(env, ATOM("$gen_cast"), message);
    }
    return enif_make_tuple2(env, control, message);
}

/* note_sent keeps the size of testbed_truth:mark_sent(Kind, To, Message) if it goes to another node. */
static void note_sent(ErlNifEnv *env, ERL_NIF_TERM sender, const ERL_NIF_TERM *arguments, uint64_t begin) {
    ErlNifBinary bytes;
    if (!leaves_node(env, arguments[1]) || !enif_term_to_binary(env, on_wire(env, sender, arguments[0], arguments[1], arguments[2]), &bytes))
        return;
    record *r = reserve(SENT, sender, begin);
    if (r) {
        r->term[0] = enif_make_uint(env, (unsigned)(4 + 2 + 1 + wire_size(bytes.data, bytes.size) - 2)); /* length, header, not the tuple of both */
        r->end = now(CLOCK_MONOTONIC);
    }
    enif_release_binary(&bytes);
}

/* note_call keeps the arguments of testbed_truth:mark/4, mark_port/3 and mark_sent/3. */
static void note_call(ErlNifEnv *env, const ERL_NIF_TERM argv[]) {
    uint64_t begin = now(CLOCK_MONOTONIC);
    const ERL_NIF_TERM *mfa;
    ERL_NIF_TERM arguments[4] = {atom_none, atom_none, atom_none, atom_none}, tail;
    int arity, count = 0;
    if (!enif_get_tuple(env, argv[3], &arity, &mfa) || arity != 3) return;
    tail = mfa[2];
    while (count < 4 && enif_get_list_cell(env, tail, &arguments[count], &tail)) count++;
    if (mfa[1] == atom_sent) {
        note_sent(env, argv[2], arguments, begin);
        return;
    }
    int of_port = enif_is_port(env, arguments[0]);
    record *r = reserve(MARK, of_port ? arguments[0] : argv[2], begin);
    if (!r) return;
    for (int i = of_port; i < 4; i++) r->term[i - of_port] = arguments[i];
    r->end = now(CLOCK_MONOTONIC);
}

static void note_running(ErlNifEnv *env, const ERL_NIF_TERM argv[]) {
    uint64_t begin = now(CLOCK_MONOTONIC);
    const ERL_NIF_TERM *mfa;
    int arity;
    record *r = reserve(is_one_of(argv[0], in_atoms, 2) ? IN : OUT, argv[2], begin);
    if (!r) return;
    if (enif_get_tuple(env, argv[3], &arity, &mfa) && arity == 3) {
        r->term[0] = mfa[0];
        r->term[1] = mfa[1];
    } else if (enif_is_atom(env, argv[3])) {
        r->term[0] = argv[3]; /* a port driver called by the process itself: which call */
    }
    r->cpu = now(CLOCK_THREAD_CPUTIME_ID);
    r->end = now(CLOCK_MONOTONIC);
}

/* trace(Tag, State, Tracee, Term, Options) -> ok */
static ERL_NIF_TERM nif_trace(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    if (argv[0] == atom_call)
        note_call(env, argv);
    else
        note_running(env, argv);
    return atom_ok;
}

/* start(Capacity, Node) -> ok: an empty buffer for so many records. */
static ERL_NIF_TERM nif_start(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    unsigned capacity;
    (void)argc;
    if (!enif_get_uint(env, argv[0], &capacity) || !capacity || capture.records) return enif_make_badarg(env);
    void *memory = mmap(NULL, capacity * sizeof(record), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return enif_make_badarg(env);
    capture.records = memory;
    capture.capacity = capacity;
    atom_node = argv[1];
    atomic_store(&capture.used, 0);
    atomic_store_explicit(&capture.on, 1, memory_order_release);
    return atom_ok;
}

/* stop() -> {Records, Dropped}: no more records; those there are stay readable. */
static ERL_NIF_TERM nif_stop(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc, (void)argv;
    atomic_store(&capture.on, 0);
    size_t used = atomic_load(&capture.used), kept = used < capture.capacity ? used : capture.capacity;
    return enif_make_tuple2(env, enif_make_uint64(env, kept), enif_make_uint64(env, used - kept));
}

/* read(From, Count) -> [{Kind, Subject, Thread, {Begin, End, Cpu}, A, B, C, D}] */
static ERL_NIF_TERM nif_read(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    unsigned from, count;
    ERL_NIF_TERM list = enif_make_list(env, 0);
    (void)argc;
    if (!enif_get_uint(env, argv[0], &from) || !enif_get_uint(env, argv[1], &count) || atomic_load(&capture.on) || !capture.records)
        return enif_make_badarg(env);
    size_t used = atomic_load(&capture.used);
    if (used > capture.capacity) used = capture.capacity;
    size_t end = (size_t)from + count < used ? (size_t)from + count : used;
    for (size_t i = end; i > from; i--) {
        record *r = &capture.records[i - 1];
        list = enif_make_list_cell(env,
                                   enif_make_tuple8(env, kind_atoms[r->kind], r->subject, enif_make_uint(env, r->thread),
                                                    enif_make_tuple3(env, enif_make_uint64(env, r->begin), enif_make_uint64(env, r->end),
                                                                     enif_make_uint64(env, r->cpu)),
                                                    r->term[0], r->term[1], r->term[2], r->term[3]),
                                   list);
    }
    return list;
}

/* free() -> ok: gives the memory back; tracing must have been turned off before. */
static ERL_NIF_TERM nif_free(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)env, (void)argc, (void)argv;
    if (capture.records && !atomic_load(&capture.on)) {
        munmap(capture.records, capture.capacity * sizeof(record));
        capture.records = NULL;
    }
    return atom_ok;
}

static int load(ErlNifEnv *env, void **priv, ERL_NIF_TERM info) {
    (void)priv, (void)info;
    atom_ok = enif_make_atom(env, "ok");
    atom_trace = enif_make_atom(env, "trace");
    atom_discard = enif_make_atom(env, "discard");
    atom_trace_status = enif_make_atom(env, "trace_status");
    atom_call = enif_make_atom(env, "call");
    atom_none = enif_make_atom(env, "none");
    atom_spawn = enif_make_atom(env, "spawn");
    atom_rpc = enif_make_atom(env, "rpc");
    atom_result = enif_make_atom(env, "result");
    atom_cast = enif_make_atom(env, "cast");
    atom_reply = enif_make_atom(env, "reply");
    atom_alias = enif_make_atom(env, "alias");
    atom_sent = enif_make_atom(env, "mark_sent");
    in_atoms[0] = enif_make_atom(env, "in");
    in_atoms[1] = enif_make_atom(env, "in_exiting");
    out_atoms[0] = enif_make_atom(env, "out");
    out_atoms[1] = enif_make_atom(env, "out_exiting");
    out_atoms[2] = enif_make_atom(env, "out_exited");
    kind_atoms[IN] = in_atoms[0];
    kind_atoms[OUT] = out_atoms[0];
    kind_atoms[MARK] = enif_make_atom(env, "mark");
    kind_atoms[SENT] = enif_make_atom(env, "sent");
    return 0;
}

static ErlNifFunc functions[] = {
    {"enabled", 3, nif_enabled, 0}, {"trace", 5, nif_trace, 0}, {"start", 2, nif_start, 0},
    {"stop", 0, nif_stop, 0},       {"read", 2, nif_read, 0},   {"free", 0, nif_free, 0},
};

ERL_NIF_INIT(testbed_tracer, functions, load, NULL, NULL, NULL)
