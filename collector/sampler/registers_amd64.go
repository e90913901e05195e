package sampler

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector/native"
)

// setRegisters copies the interrupted thread's registers under their DWARF
// numbers (System V ABI for AMD64, figure 3.36).
func setRegisters(to *native.Registers, h *bpf.Header) {
	r := &h.Regs
	*to = native.Registers{PC: r.Rip, SP: r.Rsp, Valid: 1<<16 - 1}
	copy(to.Reg[:], []uint64{
		r.Rax, r.Rdx, r.Rcx, r.Rbx, r.Rsi, r.Rdi, r.Rbp, r.Rsp,
		r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15,
	})
}

// waitsForEvents tells whether the thread is in a system call that sleeps until
// there are events: epoll_wait or epoll_pwait with a timeout other than 0.
func waitsForEvents(h *bpf.Header) bool {
	if h.Flags&bpf.SampleKernel == 0 {
		return false
	}
	switch h.Regs.OrigRax {
	case unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT:
		return int32(h.Regs.R10) != 0
	}
	return false
}

// eachCall calls f for everything in machine code that looks like a direct call
// (e8 rel32): its address and where it goes to.
func eachCall(text []byte, at uint64, f func(site, to uint64)) {
	for i := 0; ; i++ {
		next := bytes.IndexByte(text[i:], 0xe8)
		if next < 0 || i+next+5 > len(text) {
			return
		}
		i += next
		rel := int32(binary.LittleEndian.Uint32(text[i+1:]))
		f(at+uint64(i), at+uint64(i)+5+uint64(int64(rel)))
	}
}

// framePointer is the DWARF number of the register that holds the frame
// pointer, and in JIT code without frame pointers the saved Erlang stack
// pointer during calls to C (E_saved in erts/emulator/beam/jit/x86/beam_asm.hpp).
const framePointer = 6 // rbp

// Code that the JIT puts before calls to C (emit_enter_runtime in
// erts/emulator/beam/jit/x86/beam_asm.hpp, OTP 25 to 28): the switch to the C
// stack, `lea rsp, [rbx + disp]`, and before it, if the callee must not look at
// the Erlang stack, `mov rbp, rsp`.
const codeWindow = 96 // bytes before the return address that are searched

// savesStackPointer tells whether the code before a return address into JIT
// code leaves the Erlang stack pointer in the frame pointer register (true) or
// in Process.stop (false). ok is false if the switch to the C stack was not found.
func savesStackPointer(code []byte) (inRegister, ok bool) {
	for i := len(code) - 4; i >= 3; i-- {
		// lea rsp, [rbx + disp8] or [rbx + disp32]
		if code[i] != 0x48 || code[i+1] != 0x8d || code[i+2] != 0x63 && code[i+2] != 0xa3 {
			continue
		}
		before := code[:i]
		// mov [r13 + disp], r14: the reductions, stored in between
		if n := len(before); n >= 4 && before[n-4] == 0x4d && before[n-3] == 0x89 && before[n-2] == 0x75 {
			before = before[:n-4]
		} else if n >= 7 && before[n-7] == 0x4d && before[n-6] == 0x89 && before[n-5] == 0xb5 {
			before = before[:n-7]
		}
		n := len(before)
		return n >= 3 && before[n-3] == 0x48 && before[n-2] == 0x89 && before[n-1] == 0xe5, true
	}
	return false, false
}
