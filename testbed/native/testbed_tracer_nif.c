/* A tracer (erl_tracer behaviour) that notes when each process and port ran.
 *
 * Every event becomes one fixed-size record in a buffer shared by all
 * scheduler threads. Time is the CPU time of the scheduler thread, so that a
 * scheduler which the kernel preempts on a busy host books nothing; the tracer's
 * own time is left out: a record holds the clock at its begin and at its end.
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

enum { IN, OUT, MARK, SEND };

typedef struct {
    ERL_NIF_TERM subject; /* a local pid or port: an immediate term */
    uint64_t cpu_begin, cpu_end;
    ERL_NIF_TERM term[4]; /* immediates; in/out: module, function; mark: its arguments; send: bytes */
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

static ERL_NIF_TERM atom_ok, atom_trace, atom_discard, atom_trace_status, atom_call, atom_send, atom_none;
static ERL_NIF_TERM atom_extra, kind_atoms[4], in_atoms[2], out_atoms[3], atom_node;

static uint64_t thread_cpu(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
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
    r->cpu_begin = begin;
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
    if (argv[0] == atom_trace_status || argv[0] == atom_call || argv[0] == atom_send || is_one_of(argv[0], in_atoms, 2) ||
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

static void note_send(ErlNifEnv *env, const ERL_NIF_TERM argv[]) {
    ERL_NIF_TERM to;
    ErlNifBinary bytes;
    if (!enif_get_map_value(env, argv[4], atom_extra, &to) || !leaves_node(env, to)) return;
    uint64_t begin = thread_cpu();
    if (!enif_term_to_binary(env, argv[3], &bytes)) return;
    record *r = reserve(SEND, argv[2], begin);
    if (r) {
        r->term[0] = enif_make_uint(env, (unsigned)bytes.size);
        r->cpu_end = thread_cpu();
    }
    enif_release_binary(&bytes);
}

/* note_mark keeps the arguments of testbed_truth:mark/4 and mark_port/3. */
static void note_mark(ErlNifEnv *env, const ERL_NIF_TERM argv[], uint64_t begin) {
    const ERL_NIF_TERM *mfa;
    ERL_NIF_TERM subject = argv[2], head, tail;
    int arity;
    if (!enif_get_tuple(env, argv[3], &arity, &mfa) || arity != 3) return;
    tail = mfa[2];
    if (!enif_get_list_cell(env, tail, &head, &tail)) return;
    if (enif_is_port(env, head)) {
        subject = head;
        if (!enif_get_list_cell(env, tail, &head, &tail)) return;
    }
    record *r = reserve(MARK, subject, begin);
    if (!r) return;
    for (int i = 0; i < 4; i++) {
        r->term[i] = head;
        if (!enif_get_list_cell(env, tail, &head, &tail)) break;
    }
    r->cpu_end = thread_cpu();
}

static void note_running(ErlNifEnv *env, const ERL_NIF_TERM argv[], uint64_t begin) {
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
    r->cpu_end = thread_cpu();
}

/* trace(Tag, State, Tracee, Term, Options) -> ok */
static ERL_NIF_TERM nif_trace(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    if (argv[0] == atom_send)
        note_send(env, argv); /* most are local, and not timed */
    else if (argv[0] == atom_call)
        note_mark(env, argv, thread_cpu());
    else
        note_running(env, argv, thread_cpu());
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

/* read(From, Count) -> [{Kind, Subject, Thread, CpuBegin, CpuEnd, A, B, C, D}] */
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
                                   enif_make_tuple9(env, kind_atoms[r->kind], r->subject, enif_make_uint(env, r->thread),
                                                    enif_make_uint64(env, r->cpu_begin), enif_make_uint64(env, r->cpu_end), r->term[0],
                                                    r->term[1], r->term[2], r->term[3]),
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
    atom_send = enif_make_atom(env, "send");
    atom_none = enif_make_atom(env, "none");
    atom_extra = enif_make_atom(env, "extra");
    in_atoms[0] = enif_make_atom(env, "in");
    in_atoms[1] = enif_make_atom(env, "in_exiting");
    out_atoms[0] = enif_make_atom(env, "out");
    out_atoms[1] = enif_make_atom(env, "out_exiting");
    out_atoms[2] = enif_make_atom(env, "out_exited");
    kind_atoms[IN] = in_atoms[0];
    kind_atoms[OUT] = out_atoms[0];
    kind_atoms[MARK] = enif_make_atom(env, "mark");
    kind_atoms[SEND] = atom_send;
    return 0;
}

static ErlNifFunc functions[] = {
    {"enabled", 3, nif_enabled, 0}, {"trace", 5, nif_trace, 0}, {"start", 2, nif_start, 0},
    {"stop", 0, nif_stop, 0},       {"read", 2, nif_read, 0},   {"free", 0, nif_free, 0},
};

ERL_NIF_INIT(testbed_tracer, functions, load, NULL, NULL, NULL)
