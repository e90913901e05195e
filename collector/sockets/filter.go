package sockets

import (
	"fmt"
	"slices"

	"golang.org/x/net/bpf"
)

// Ports say of which sockets Closed tells: those with one of the local ports or
// one of the remote ports.
type Ports struct{ Local, Remote []uint16 }

// maxPorts bounds the program that the kernel runs for each socket that closes;
// it may have 4096 instructions (BPF_MAXINSNS, include/uapi/linux/bpf_common.h).
const maxPorts = 1000

// Where the ports are in a message: behind struct nlmsghdr (16 bytes) and the
// first four bytes of struct inet_diag_msg.
const (
	localPortAt  = 16 + 4
	remotePortAt = localPortAt + 2
)

// Only has the kernel leave out other sockets than those with certain ports, so
// that they do not wake this process up. If there are too many, all are told of.
func (n *Namespace) Only(ports Ports) error {
	if len(ports.Local)+len(ports.Remote) > maxPorts {
		return n.All()
	}
	program, err := bpf.Assemble(filter(ports))
	if err == nil {
		err = n.destroyed.SetBPF(program)
	}
	if err != nil {
		return fmt.Errorf("leave out closed sockets of others: %w", err)
	}
	n.filtered = true
	return nil
}

// All has Closed tell of all sockets again.
func (n *Namespace) All() error {
	if !n.filtered {
		return nil
	}
	if err := n.destroyed.RemoveBPF(); err != nil {
		return fmt.Errorf("hear of all closed sockets: %w", err)
	}
	n.filtered = false
	return nil
}

// filter returns the program: what it returns is how much of a message is kept.
func filter(ports Ports) []bpf.Instruction {
	const whole = ^uint32(0)
	var program []bpf.Instruction
	for _, field := range []struct {
		at    uint32
		ports []uint16
	}{{localPortAt, ports.Local}, {remotePortAt, ports.Remote}} {
		if len(field.ports) == 0 {
			continue
		}
		program = append(program, bpf.LoadAbsolute{Off: field.at, Size: 2})
		for _, port := range slices.Compact(slices.Sorted(slices.Values(field.ports))) {
			program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(port), SkipFalse: 1}, bpf.RetConstant{Val: whole})
		}
	}
	return append(program, bpf.RetConstant{Val: 0})
}
