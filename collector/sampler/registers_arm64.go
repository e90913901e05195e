package sampler

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector/native"
)

// setRegisters copies the interrupted thread's registers under their DWARF
// numbers (DWARF for the Arm 64-bit Architecture): x0-x30 are 0-30, sp is 31.
func setRegisters(to *native.Registers, h *bpf.Header) {
	r := &h.Regs
	*to = native.Registers{PC: r.Pc, SP: r.Sp, Valid: 1<<32 - 1}
	copy(to.Reg[:], r.X[:])
	to.Reg[31] = r.Sp
}

// waitsForEvents tells whether the thread is in a system call that sleeps until
// there are events: epoll_pwait (x8 holds the call's number, x3 the timeout).
func waitsForEvents(h *bpf.Header) bool {
	return h.Flags&bpf.SampleKernel != 0 && h.Regs.X[8] == unix.SYS_EPOLL_PWAIT && int32(h.Regs.X[3]) != 0
}

// eachCall calls f for every direct call (bl) in machine code: its address and
// where it goes to.
func eachCall(text []byte, at uint64, f func(site, to uint64)) {
	for i := 0; i+4 <= len(text); i += 4 {
		instruction := binary.LittleEndian.Uint32(text[i:])
		if instruction>>26 != 0b100101 {
			continue
		}
		words := int64(int32(instruction<<6)) >> 6
		f(at+uint64(i), at+uint64(i)+uint64(4*words))
	}
}

// framePointer is the DWARF number of the frame pointer register.
const framePointer = 29

const codeWindow = 0

// savesStackPointer is never true: on arm64 the Erlang stack pointer has a
// callee-saved register of its own (x20, erts/emulator/beam/jit/arm/beam_asm.hpp).
func savesStackPointer([]byte) (inRegister, ok bool) { return false, false }
