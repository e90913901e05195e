// A program with a known stack: main -> first -> second -> set_registers ->
// hold -> pause. set_registers gives the callee-saved registers known values,
// which hold overwrites. With an argument it waits until someone sets go, and
// then works for ever through library calls, a callback from one, and functions
// of its own. With two arguments: main -> before_fault -> fault, whose first
// instruction raises SIGILL or SIGTRAP -> on_signal -> pause.
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void set_registers(void);
volatile long sink;
volatile int go;

#if defined(__x86_64__)
#define OVERWRITE() __asm__ volatile( \
	"xor %%ebx, %%ebx; xor %%r12d, %%r12d; xor %%r13d, %%r13d; xor %%r14d, %%r14d; xor %%r15d, %%r15d; xor %%ebp, %%ebp" \
	::: "rbx", "rbp", "r12", "r13", "r14", "r15")
__asm__(
	".globl set_registers\n.type set_registers, @function\nset_registers:\n.cfi_startproc\n"
	"push %rbx\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset rbx, 0\n"
	"push %rbp\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset rbp, 0\n"
	"push %r12\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset r12, 0\n"
	"push %r13\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset r13, 0\n"
	"push %r14\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset r14, 0\n"
	"push %r15\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset r15, 0\n"
	"sub $8, %rsp\n.cfi_adjust_cfa_offset 8\n"
	"mov $0x1001, %rbx\nmov $0x1002, %rbp\nmov $0x1003, %r12\n"
	"mov $0x1004, %r13\nmov $0x1005, %r14\nmov $0x1006, %r15\n"
	"call hold\n"
	"add $8, %rsp\n.cfi_adjust_cfa_offset -8\n"
	"pop %r15\n.cfi_adjust_cfa_offset -8\n.cfi_restore r15\n"
	"pop %r14\n.cfi_adjust_cfa_offset -8\n.cfi_restore r14\n"
	"pop %r13\n.cfi_adjust_cfa_offset -8\n.cfi_restore r13\n"
	"pop %r12\n.cfi_adjust_cfa_offset -8\n.cfi_restore r12\n"
	"pop %rbp\n.cfi_adjust_cfa_offset -8\n.cfi_restore rbp\n"
	"pop %rbx\n.cfi_adjust_cfa_offset -8\n.cfi_restore rbx\n"
	"ret\n.cfi_endproc\n.size set_registers, .-set_registers\n"
	".type fault, @function\nfault:\n.cfi_startproc\nud2\nret\n.cfi_endproc\n.size fault, .-fault\n");
#elif defined(__aarch64__)
#define OVERWRITE() __asm__ volatile( \
	"mov x19, 0; mov x20, 0; mov x21, 0; mov x22, 0; mov x23, 0; mov x24, 0" \
	::: "x19", "x20", "x21", "x22", "x23", "x24")
__asm__(
	".globl set_registers\n.type set_registers, %function\nset_registers:\n.cfi_startproc\n"
	"stp x29, x30, [sp, -64]!\n.cfi_def_cfa_offset 64\n.cfi_offset 29, -64\n.cfi_offset 30, -56\n"
	"stp x19, x20, [sp, 16]\n.cfi_offset 19, -48\n.cfi_offset 20, -40\n"
	"stp x21, x22, [sp, 32]\n.cfi_offset 21, -32\n.cfi_offset 22, -24\n"
	"stp x23, x24, [sp, 48]\n.cfi_offset 23, -16\n.cfi_offset 24, -8\n"
	"mov x19, 0x1001\nmov x20, 0x1002\nmov x21, 0x1003\n"
	"mov x22, 0x1004\nmov x23, 0x1005\nmov x24, 0x1006\n"
	"bl hold\n"
	"ldp x19, x20, [sp, 16]\nldp x21, x22, [sp, 32]\nldp x23, x24, [sp, 48]\n"
	"ldp x29, x30, [sp], 64\n.cfi_restore 19\n.cfi_restore 20\n.cfi_restore 21\n.cfi_restore 22\n"
	".cfi_restore 23\n.cfi_restore 24\n.cfi_restore 29\n.cfi_restore 30\n.cfi_def_cfa_offset 0\n"
	"ret\n.cfi_endproc\n.size set_registers, .-set_registers\n"
	".type fault, %function\nfault:\n.cfi_startproc\nbrk 1\nret\n.cfi_endproc\n.size fault, .-fault\n");
#endif
void fault(void);

__attribute__((used, noinline)) void hold(void)
{
	OVERWRITE();
	for (;;)
		sink += pause();
}

__attribute__((noinline)) void second(int n)
{
	char room[100];
	memset(room, n, sizeof room);
	set_registers();
	sink += room[n & 63];
}

__attribute__((noinline)) void first(int n)
{
	second(n + 1);
	sink += n;
}

__attribute__((noinline)) static void on_signal(int number)
{
	for (sink = number;;)
		sink += pause();
}

__attribute__((noinline)) static void before_fault(int n)
{
	fault();
	sink += n;
}

__attribute__((noinline)) static int compare(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;
	return (x > y) - (x < y);
}

__attribute__((noinline)) static double work(long seed)
{
	long numbers[5];
	char text[64];
	for (int i = 0; i < 5; i++)
		numbers[i] = seed = seed * 6364136223846793005 + 1;
	qsort(numbers, 5, sizeof numbers[0], compare);
	sink += snprintf(text, sizeof text, "%ld %f", numbers[0], (double)numbers[1]);
	sink += (long)strlen(text) + (strchr(text, '7') != NULL);
	char *copy = strdup(text);
	memmove(copy, text + 1, strlen(text));
	free(copy);
	return exp(sin((double)numbers[2]));
}

int main(int argc, char **argv)
{
	puts("ready");
	fflush(stdout);
	if (argc > 2) {
		signal(SIGILL, on_signal);
		signal(SIGTRAP, on_signal);
		before_fault(argc);
	}
	while (argc > 1 && !go)
		;
	for (long i = 0; argc > 1; i++)
		sink += (long)work(i);
	first(argc);
	return 0;
}
