package beam

import (
	"encoding/binary"
	"fmt"

	"github.com/beamprof/beamprof/collector/beam/memory"
)

// maxPortName bounds the name of a port, which is the whole command line of an
// external program.
const maxPortName = 64 << 10

// Port is a port of the VM: a socket of inet_drv, an external program, a driver.
type Port struct {
	ID        string // "#Port<0.5>"
	Name      string // as erlang:port_info(Port, name): "tcp_inet", or a command line
	Driver    string // "tcp_inet", "spawn", ...
	Connected uint64 // pid term of the owner
}

// Port reads the port at an address, such as a scheduler's current_port.
func (t *Target) Port(addr uint64) (Port, error) {
	l := &t.Layout.Port
	head := make([]byte, max(l.ID, l.Connected, l.Name, l.Driver)+8)
	if err := t.Memory.Read(head, addr); err != nil {
		return Port{}, fmt.Errorf("read port: %w", err)
	}
	word := func(o Offset) uint64 { return binary.NativeEndian.Uint64(head[o:]) }
	id := word(l.ID)
	if !IsPort(id) || !IsPID(word(l.Connected)) {
		return Port{}, fmt.Errorf("read port: %#x is no port's address", addr)
	}
	port := Port{ID: t.Layout.PID.formatPort(id), Connected: word(l.Connected)}
	var err error
	if port.Name, err = memory.String(t.Memory, word(l.Name), maxPortName); err != nil {
		return Port{}, fmt.Errorf("name of port %s: %w", port.ID, err)
	}
	driver, err := memory.Uint64(t.Memory, word(l.Driver)+uint64(t.Layout.Driver.Name))
	if err != nil {
		return Port{}, fmt.Errorf("driver of port %s: %w", port.ID, err)
	}
	if port.Driver, err = memory.String(t.Memory, driver, maxPortName); err != nil {
		return Port{}, fmt.Errorf("driver of port %s: %w", port.ID, err)
	}
	port.Name, port.Driver = atomName(port.Name), atomName(port.Driver)
	return port, nil
}

// FormatPort returns a port as the VM prints it: "#Port<0.5>".
func (t *Target) FormatPort(term uint64) (string, bool) {
	if !IsPort(term) {
		return "", false
	}
	return t.Layout.PID.formatPort(term), true
}

// formatPort writes a port of the VM's own. Ports are packed like pids, and
// their number is the whole data.
func (l PIDLayout) formatPort(term uint64) string {
	return fmt.Sprintf("#Port<0.%d>", term>>4&(1<<(l.NumberBits+l.SerialBits)-1))
}
