/* An asynchronous key-value NIF with its own thread pool.
 *
 * A process submits an operation and gets the result as a message {Ref, Result}.
 * The operations run on pool threads named "Eleveldb", which are not threads of
 * the VM. One thread is left unnamed on purpose: it keeps the name of the
 * scheduler thread that created it, as happens with real storage libraries.
 *
 * The pool measures the CPU time of every operation and books it to the
 * workload its submitter named, so the native share of each workload is known
 * exactly (pool_stats/0).
 */
#define _GNU_SOURCE
#include <erl_nif.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define MAX_LEVEL 16
#define BLOCK_BYTES 2048 /* read and checked by every get, like one compressed table block */
#define MAX_WORKLOADS 16

typedef struct node {
    unsigned char *key, *value;
    size_t key_size, value_size;
    struct node *next[]; /* as many as the node's level */
} node;

typedef struct {
    pthread_mutex_t lock;
    node *head;
    int level;
    uint32_t seed, check;
    unsigned char block[BLOCK_BYTES];
} database;

typedef enum { GET, WRITE, RANGE } operation_kind;

typedef struct operation {
    struct operation *next;
    operation_kind kind;
    database *db;
    ErlNifPid caller;
    ErlNifEnv *env; /* owns the terms below */
    ERL_NIF_TERM ref, argument, workload;
    unsigned count; /* RANGE: at most so many pairs */
} operation;

typedef struct {
    ERL_NIF_TERM workload;
    uint64_t operations, nanoseconds;
} usage;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t ready;
    operation *first, *last;
    usage usage[MAX_WORKLOADS];
} pool = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, NULL, {{0, 0, 0}}};

static ErlNifResourceType *database_type;
static ERL_NIF_TERM atom_ok, atom_not_found, atom_put, atom_delete;
static uint32_t crc_table[256];

static uint64_t thread_cpu(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* CRC-32C, reflected polynomial 0x82f63b78 (RFC 3720), one byte at a time. */
static void crc_init(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) c = c & 1 ? (c >> 1) ^ 0x82f63b78u : c >> 1;
        crc_table[i] = c;
    }
}

static uint32_t crc(uint32_t c, const unsigned char *data, size_t size) {
    c = ~c;
    while (size--) c = crc_table[(c ^ *data++) & 0xff] ^ (c >> 8);
    return ~c;
}

/* ---- the sorted map: a skip list, guarded by the database's lock ---- */

static int compare(const node *n, const unsigned char *key, size_t size) {
    size_t common = n->key_size < size ? n->key_size : size;
    int order = memcmp(n->key, key, common);
    if (order) return order;
    return n->key_size < size ? -1 : n->key_size > size;
}

static node *new_node(int level) {
    node *n = enif_alloc(sizeof *n + (size_t)level * sizeof n->next[0]);
    memset(n, 0, sizeof *n + (size_t)level * sizeof n->next[0]);
    return n;
}

static void free_node(node *n) {
    enif_free(n->key);
    enif_free(n->value);
    enif_free(n);
}

static unsigned char *copy(const ErlNifBinary *b) {
    unsigned char *bytes = enif_alloc(b->size ? b->size : 1);
    memcpy(bytes, b->data, b->size);
    return bytes;
}

/* seek returns the first node not before key; before[i] precedes it on level i. */
static node *seek(database *db, const unsigned char *key, size_t size, node **before) {
    node *n = db->head;
    for (int i = MAX_LEVEL - 1; i >= 0; i--) {
        while (n->next[i] && compare(n->next[i], key, size) < 0) n = n->next[i];
        if (before) before[i] = n;
    }
    return n->next[0];
}

static int random_level(database *db) {
    int level = 1;
    db->seed = db->seed * 1664525u + 1013904223u;
    for (uint32_t bits = db->seed >> 8; level < MAX_LEVEL && (bits & 3) == 0; bits >>= 2) level++;
    return level;
}

static void map_put(database *db, const ErlNifBinary *key, const ErlNifBinary *value) {
    node *before[MAX_LEVEL], *n = seek(db, key->data, key->size, before);
    if (n && compare(n, key->data, key->size) == 0) {
        enif_free(n->value);
    } else {
        int level = random_level(db);
        n = new_node(level);
        n->key = copy(key);
        n->key_size = key->size;
        for (int i = 0; i < level; i++) {
            n->next[i] = before[i]->next[i];
            before[i]->next[i] = n;
        }
    }
    n->value = copy(value);
    n->value_size = value->size;
}

static void map_delete(database *db, const ErlNifBinary *key) {
    node *before[MAX_LEVEL], *n = seek(db, key->data, key->size, before);
    if (!n || compare(n, key->data, key->size) != 0) return;
    for (int i = 0; i < MAX_LEVEL && before[i]->next[i] == n; i++) before[i]->next[i] = n->next[i];
    free_node(n);
}

static void database_free(ErlNifEnv *env, void *object) {
    database *db = object;
    (void)env;
    for (node *n = db->head; n;) {
        node *next = n->next[0];
        free_node(n);
        n = next;
    }
    pthread_mutex_destroy(&db->lock);
}

/* ---- operations, on pool threads ---- */

static ERL_NIF_TERM make_binary(ErlNifEnv *env, const unsigned char *data, size_t size) {
    ERL_NIF_TERM term;
    memcpy(enif_make_new_binary(env, size, &term), data, size);
    return term;
}

static ERL_NIF_TERM run_get(operation *op) {
    database *db = op->db;
    ErlNifBinary key;
    ERL_NIF_TERM result = atom_not_found;
    enif_inspect_binary(op->env, op->argument, &key);
    pthread_mutex_lock(&db->lock);
    db->check = crc(crc(db->check, key.data, key.size), db->block, BLOCK_BYTES);
    node *n = seek(db, key.data, key.size, NULL);
    if (n && compare(n, key.data, key.size) == 0)
        result = enif_make_tuple2(op->env, atom_ok, make_binary(op->env, n->value, n->value_size));
    pthread_mutex_unlock(&db->lock);
    return result;
}

static ERL_NIF_TERM run_write(operation *op) {
    database *db = op->db;
    ERL_NIF_TERM head, tail = op->argument;
    pthread_mutex_lock(&db->lock);
    while (enif_get_list_cell(op->env, tail, &head, &tail)) {
        const ERL_NIF_TERM *e;
        int arity;
        ErlNifBinary key, value;
        enif_get_tuple(op->env, head, &arity, &e);
        enif_inspect_binary(op->env, e[1], &key);
        db->check = crc(db->check, key.data, key.size);
        if (e[0] == atom_delete) {
            map_delete(db, &key);
            continue;
        }
        enif_inspect_binary(op->env, e[2], &value);
        db->check = crc(db->check, value.data, value.size);
        map_put(db, &key, &value);
    }
    pthread_mutex_unlock(&db->lock);
    return atom_ok;
}

static ERL_NIF_TERM run_range(operation *op) {
    database *db = op->db;
    ErlNifBinary from;
    ERL_NIF_TERM list = enif_make_list(op->env, 0), reversed;
    enif_inspect_binary(op->env, op->argument, &from);
    pthread_mutex_lock(&db->lock);
    node *n = seek(db, from.data, from.size, NULL);
    for (unsigned i = 0; n && i < op->count; i++, n = n->next[0])
        list = enif_make_list_cell(op->env,
                                   enif_make_tuple2(op->env, make_binary(op->env, n->key, n->key_size),
                                                    make_binary(op->env, n->value, n->value_size)),
                                   list);
    pthread_mutex_unlock(&db->lock);
    enif_make_reverse_list(op->env, list, &reversed);
    return reversed;
}

static void book(ERL_NIF_TERM workload, uint64_t nanoseconds) { /* with the pool's lock held */
    for (int i = 0; i < MAX_WORKLOADS; i++) {
        usage *u = &pool.usage[i];
        if (u->operations && u->workload != workload) continue;
        u->workload = workload;
        u->operations++;
        u->nanoseconds += nanoseconds;
        return;
    }
}

static void *pool_thread(void *named) {
    uint64_t since = thread_cpu();
    if (named) pthread_setname_np(pthread_self(), "Eleveldb");
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (!pool.first) pthread_cond_wait(&pool.ready, &pool.lock);
        operation *op = pool.first;
        pool.first = op->next;
        pthread_mutex_unlock(&pool.lock);

        ERL_NIF_TERM workload = op->workload;
        ERL_NIF_TERM result = op->kind == GET ? run_get(op) : op->kind == WRITE ? run_write(op) : run_range(op);
        ERL_NIF_TERM message = enif_make_tuple2(op->env, op->ref, result);
        enif_send(NULL, &op->caller, op->env, message);
        enif_free_env(op->env);
        enif_release_resource(op->db);
        enif_free(op);

        /* A sleeping thread's clock stands still: all since the last operation is this one's. */
        uint64_t now = thread_cpu();
        pthread_mutex_lock(&pool.lock);
        book(workload, now - since);
        since = now;
    }
    return NULL;
}

/* ---- NIFs ---- */

/* open() -> Database */
static ERL_NIF_TERM nif_open(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc, (void)argv;
    database *db = enif_alloc_resource(database_type, sizeof *db);
    memset(db, 0, sizeof *db);
    pthread_mutex_init(&db->lock, NULL);
    db->head = new_node(MAX_LEVEL);
    db->seed = 1;
    for (int i = 0; i < BLOCK_BYTES; i++) db->block[i] = (unsigned char)(i * 31 + 7);
    ERL_NIF_TERM term = enif_make_resource(env, db);
    enif_release_resource(db);
    return term;
}

/* valid_writes tells whether the term is a list of {put, Key, Value} and {delete, Key}. */
static int valid_writes(ErlNifEnv *env, ERL_NIF_TERM list) {
    ERL_NIF_TERM head;
    while (enif_get_list_cell(env, list, &head, &list)) {
        const ERL_NIF_TERM *e;
        int arity;
        if (!enif_get_tuple(env, head, &arity, &e) || arity < 2 || !enif_is_binary(env, e[1])) return 0;
        if (!(arity == 2 && e[0] == atom_delete) && !(arity == 3 && e[0] == atom_put && enif_is_binary(env, e[2]))) return 0;
    }
    return enif_is_empty_list(env, list);
}

/* submit queues an operation; its arguments are (Database, Ref, Argument, Workload). */
static ERL_NIF_TERM submit(ErlNifEnv *env, const ERL_NIF_TERM argv[], operation_kind kind, unsigned count) {
    database *db;
    if (!enif_get_resource(env, argv[0], database_type, (void **)&db) || !enif_is_ref(env, argv[1]) ||
        !(kind == WRITE ? valid_writes(env, argv[2]) : enif_is_binary(env, argv[2])) || !enif_is_atom(env, argv[3]))
        return enif_make_badarg(env);
    operation *op = enif_alloc(sizeof *op);
    op->next = NULL;
    op->kind = kind;
    op->db = db;
    op->count = count;
    op->env = enif_alloc_env();
    op->ref = enif_make_copy(op->env, argv[1]);
    op->argument = enif_make_copy(op->env, argv[2]);
    op->workload = argv[3];
    enif_self(env, &op->caller);
    enif_keep_resource(db);

    pthread_mutex_lock(&pool.lock);
    if (pool.first)
        pool.last->next = op;
    else
        pool.first = op;
    pool.last = op;
    pthread_cond_signal(&pool.ready);
    pthread_mutex_unlock(&pool.lock);
    return atom_ok;
}

static ERL_NIF_TERM nif_get(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return submit(env, argv, GET, 0);
}

static ERL_NIF_TERM nif_write(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return submit(env, argv, WRITE, 0);
}

static ERL_NIF_TERM nif_range(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    unsigned count;
    (void)argc;
    if (!enif_get_uint(env, argv[4], &count)) return enif_make_badarg(env);
    return submit(env, argv, RANGE, count);
}

/* start_pool(Threads) -> ok; called once, by the module's on_load. */
static ERL_NIF_TERM nif_start_pool(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    unsigned threads;
    (void)argc;
    if (!enif_get_uint(env, argv[0], &threads)) return enif_make_badarg(env);
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the VM's */
    for (unsigned i = 0; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, pool_thread, i ? (void *)1 : NULL) == 0) pthread_detach(thread);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return atom_ok;
}

/* pool_stats() -> [{Workload, Operations, Nanoseconds}], since the node started. */
static ERL_NIF_TERM nif_pool_stats(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    ERL_NIF_TERM list = enif_make_list(env, 0);
    (void)argc, (void)argv;
    pthread_mutex_lock(&pool.lock);
    for (int i = 0; i < MAX_WORKLOADS && pool.usage[i].operations; i++)
        list = enif_make_list_cell(env,
                                   enif_make_tuple3(env, pool.usage[i].workload, enif_make_uint64(env, pool.usage[i].operations),
                                                    enif_make_uint64(env, pool.usage[i].nanoseconds)),
                                   list);
    pthread_mutex_unlock(&pool.lock);
    return list;
}

static int load(ErlNifEnv *env, void **priv, ERL_NIF_TERM info) {
    (void)priv, (void)info;
    crc_init();
    atom_ok = enif_make_atom(env, "ok");
    atom_not_found = enif_make_atom(env, "not_found");
    atom_put = enif_make_atom(env, "put");
    atom_delete = enif_make_atom(env, "delete");
    database_type = enif_open_resource_type(env, NULL, "eleveldb", database_free, ERL_NIF_RT_CREATE, NULL);
    return database_type ? 0 : -1;
}

static ErlNifFunc functions[] = {
    {"open", 0, nif_open, 0},
    {"async_get", 4, nif_get, 0},
    {"async_write", 4, nif_write, 0},
    {"async_range", 5, nif_range, 0},
    {"start_pool", 1, nif_start_pool, 0},
    {"pool_stats", 0, nif_pool_stats, 0},
};

ERL_NIF_INIT(eleveldb, functions, load, NULL, NULL, NULL)
