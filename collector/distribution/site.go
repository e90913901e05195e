package distribution

import (
	"debug/elf"
	"errors"
	"fmt"
)

// sendFunction sends all messages to other nodes. It is entered several times
// for a large message, and sizes are known only inside.
const sendFunction = "erts_dsig_send"

// phaseSend is ERTS_DSIG_SEND_PHASE_SEND (dist.h, OTP 24 to 28): the message is
// encoded. The VM writes it into the context once for each message.
const phaseSend = 5

// errNoSite says that a VM is built in a way that is not understood.
var errNoSite = errors.New("the place where the VM has encoded a message was not found in its code")

// site is a place in a function, and where what is sent is held there.
type site struct {
	offset   uint64 // bytes from the function's first
	register uint32 // as the kernel side numbers saved registers
}

// sites are the places for the probes, as offsets in the emulator's file.
type sites struct {
	sent     uint64 // where erts_dsig_send has encoded a message
	register uint32 // that holds it there: see site
	received uint64 // where erts_net_message is entered
}

// findSites finds the places for the probes in the emulator's file: the memory of
// a VM may have another's probe there.
func findSites(executable string, phase int32) (sites, error) {
	file, err := elf.Open(executable)
	if err != nil {
		return sites{}, fmt.Errorf("open the VM's executable: %w", err)
	}
	defer file.Close()
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return sites{}, fmt.Errorf("read the VM's symbols: %w", err)
	}
	code, at, err := functionCode(file, symbols, sendFunction)
	if err != nil {
		return sites{}, err
	}
	sent, err := findStore(code, phase, phaseSend)
	if err != nil {
		return sites{}, err
	}
	found := sites{sent: at + sent.offset, register: sent.register}
	if code, at, err = functionCode(file, symbols, receivedFunction); err != nil {
		return sites{}, err
	}
	found.received = at + entry(code)
	return found, nil
}

// maxFunction bounds the code of the function: it has 5 KiB.
const maxFunction = 1 << 18

// functionCode returns the machine code of an exported function, and the offset of
// its first byte in the file.
func functionCode(file *elf.File, symbols []elf.Symbol, name string) (code []byte, at uint64, err error) {
	for _, s := range symbols {
		if s.Name != name || s.Size == 0 || s.Size > maxFunction {
			continue
		}
		for _, p := range file.Progs {
			if p.Type != elf.PT_LOAD || s.Value < p.Vaddr || s.Value-p.Vaddr > p.Filesz || s.Size > p.Filesz-(s.Value-p.Vaddr) {
				continue
			}
			code := make([]byte, s.Size)
			if _, err := p.ReadAt(code, int64(s.Value-p.Vaddr)); err != nil {
				return nil, 0, fmt.Errorf("read the VM's code: %w", err)
			}
			return code, p.Off + s.Value - p.Vaddr, nil
		}
	}
	return nil, 0, fmt.Errorf("%w: no function %s", errNoSite, name)
}
