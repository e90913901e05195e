/* A NIF with a native stack of a given depth, which spends its time in its own
 * code or in the kernel. */
#include <erl_nif.h>
#include <fcntl.h>
#include <unistd.h>

enum mode { MODE_NATIVE, MODE_KERNEL };

static int zero = -1;
static char buffer[256 << 10];

static __attribute__((noinline)) int work(int mode)
{
	volatile int sum = 1;
	int i;

	if (mode == MODE_KERNEL)
		return (int)read(zero, buffer, sizeof(buffer));
	for (i = 0; i < 50000; i++)
		sum = sum * 7 + i;
	return sum;
}

/* A frame of 96 bytes and more, as most functions of the VM have. */
static __attribute__((noinline)) int descend(int depth, int mode)
{
	volatile int local[16];
	int result;

	local[depth & 15] = depth;
	result = depth > 0 ? descend(depth - 1, mode) : work(mode);
	return result + local[depth & 15];
}

/* native(Depth, Mode): Depth frames of descend, work, and this function. */
static ERL_NIF_TERM native(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	int depth, mode;

	if (argc != 2 || !enif_get_int(env, argv[0], &depth) || !enif_get_int(env, argv[1], &mode) || depth < 1)
		return enif_make_badarg(env);
	return enif_make_int(env, descend(depth - 1, mode));
}

static int load(ErlNifEnv *env, void **data, ERL_NIF_TERM info)
{
	(void)env, (void)data, (void)info;
	zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	return zero < 0;
}

static ErlNifFunc functions[] = {{"native", 2, native, 0}};

ERL_NIF_INIT(cost, functions, load, NULL, NULL, NULL)
