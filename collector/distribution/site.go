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

// findSites finds the places for the probes, in the emulator's file: the memory of
// a VM may have another's probe there. One is where erts_dsig_send has encoded a
// message, one where erts_net_message is entered: bytes from its first.
func findSites(executable string, phase int32) (sent site, received uint64, err error) {
	file, err := elf.Open(executable)
	if err != nil {
		return site{}, 0, fmt.Errorf("open the VM's executable: %w", err)
	}
	defer file.Close()
	code, err := functionCode(file, sendFunction)
	if err != nil {
		return site{}, 0, err
	}
	if sent, err = findStore(code, phase, phaseSend); err != nil {
		return site{}, 0, err
	}
	if code, err = functionCode(file, receivedFunction); err != nil {
		return site{}, 0, err
	}
	return sent, entry(code), nil
}

// maxFunction bounds the code of the function: it has 5 KiB.
const maxFunction = 1 << 18

// functionCode returns the machine code of an exported function.
func functionCode(file *elf.File, name string) ([]byte, error) {
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return nil, fmt.Errorf("read the VM's symbols: %w", err)
	}
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
				return nil, fmt.Errorf("read the VM's code: %w", err)
			}
			return code, nil
		}
	}
	return nil, fmt.Errorf("%w: no function %s", errNoSite, name)
}
