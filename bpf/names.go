package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// KernelNamer asks the kernel for the names of its code. It is an upgrade:
// Linux 5.13 is the first that can.
type KernelNamer struct {
	objects namesObjects
	buffer  namesKernelNames
}

// LoadKernelNamer loads the program that asks. It fails on kernels before 5.13.
func LoadKernelNamer() (*KernelNamer, error) {
	n := &KernelNamer{}
	if err := loadNamesObjects(&n.objects, nil); err != nil {
		return nil, fmt.Errorf("loading the program that names kernel code: %w", err)
	}
	return n, nil
}

// Symbols returns for each address the symbol that it is in, as the kernel's
// own messages show it: "name" or "name [module]", or the address in
// hexadecimal if it is no code.
func (n *KernelNamer) Symbols(addresses []uint64) ([]string, error) {
	symbols := make([]string, 0, len(addresses))
	for len(addresses) > 0 {
		count := copy(n.buffer.Addresses[:], addresses)
		if err := n.ask(); err != nil {
			return nil, fmt.Errorf("naming kernel code: %w", err)
		}
		for i := range count {
			symbols = append(symbols, unix.ByteSliceToString(n.buffer.Names[i][:]))
		}
		addresses = addresses[count:]
	}
	return symbols, nil
}

// ask has the addresses of the buffer named.
func (n *KernelNamer) ask() error {
	if err := n.objects.Names.Put(uint32(0), &n.buffer); err != nil {
		return err
	}
	if _, err := n.objects.NameAddresses.Run(&ebpf.RunOptions{}); err != nil {
		return err
	}
	return n.objects.Names.Lookup(uint32(0), &n.buffer)
}

// Close unloads the program.
func (n *KernelNamer) Close() error { return n.objects.Close() }
