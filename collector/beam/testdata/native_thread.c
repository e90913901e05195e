/* A NIF that starts threads: they inherit the name of the thread that started them. */
#include <erl_nif.h>
#include <pthread.h>
#include <unistd.h>

static void *wait_forever(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static ERL_NIF_TERM start(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    pthread_t thread;
    (void)argc;
    (void)argv;
    return enif_make_int(env, pthread_create(&thread, NULL, wait_forever, NULL));
}

static ErlNifFunc functions[] = {
    {"start", 0, start, 0},
    {"start_dirty_cpu", 0, start, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"start_dirty_io", 0, start, ERL_NIF_DIRTY_JOB_IO_BOUND},
};

ERL_NIF_INIT(native_thread, functions, NULL, NULL, NULL, NULL)
