package distribution

import (
	"bytes"
	"encoding/binary"
)

// savedRegisters gives the kernel side's numbers (SAVE_REGISTERS in
// distribution.bpf.c) of the registers that a function may keep things in.
var savedRegisters = map[byte]uint32{3: 0, 5: 1, 12: 2, 13: 3, 14: 4, 15: 5}

// isBranch tells whether machine code begins with a direct jump. The kernel
// carries out a probed jump itself; most other instructions it lets the thread
// execute elsewhere, step by step, which costs a second trap (arch/x86/kernel/
// uprobes.c: branch_setup_insn, since Linux 3.16).
func isBranch(code []byte) bool {
	return len(code) >= 2 && (code[0]&0xf0 == 0x70 || code[0] == 0xeb) ||
		len(code) >= 5 && (code[0] == 0xe9 || code[0] == 0x0f && code[1]&0xf0 == 0x80)
}

// endbr64 marks where a function may be entered. Compilers put it there for
// CPUs that check this, by default on Ubuntu.
var endbr64 = []byte{0xf3, 0x0f, 0x1e, 0xfa}

// entry returns where to probe the entry of a function, in bytes: behind the mark
// if it has one. What comes there is most often a push, which the kernel carries
// out itself (push_setup_xol_ops in arch/x86/kernel/uprobes.c, v5.4); the mark it
// does not.
func entry(code []byte) uint64 {
	if bytes.HasPrefix(code, endbr64) {
		return uint64(len(endbr64))
	}
	return 0
}

// findStore finds the one instruction that stores a 32-bit constant at an offset
// from what a saved register points to: mov dword ptr [register+offset], constant. If a
// jump follows, as it does in the code compilers make of erts_dsig_send, the
// place is that jump.
func findStore(code []byte, offset, constant int32) (site, error) {
	found, count := site{}, 0
	for at := 0; at < len(code); at++ {
		i := at
		register := byte(0)
		if code[i]&0xfe == 0x40 { // REX, with or without the bit for r8 to r15
			register = code[i] & 1 << 3
			i++
		}
		if i+2 > len(code) || code[i] != 0xc7 || code[i+1]&0xf8 != 0x80 {
			continue
		}
		register |= code[i+1] & 7
		i += 2
		if register&7 == 4 { // rsp and r12 need a second byte
			if i >= len(code) || code[i] != 0x24 {
				continue
			}
			i++
		}
		if i+8 > len(code) || int32(binary.LittleEndian.Uint32(code[i:])) != offset || int32(binary.LittleEndian.Uint32(code[i+4:])) != constant {
			continue
		}
		if n, ok := savedRegisters[register]; ok {
			found = site{uint64(at), n}
			if isBranch(code[i+8:]) {
				found.offset = uint64(i + 8)
			}
			count++
		}
		at = i + 7
	}
	if count != 1 {
		return site{}, errNoSite
	}
	return found, nil
}
