package bpf

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
)

func TestLoadKernelNamer(t *testing.T) {
	n, err := LoadKernelNamer()
	if errors.Is(features.HaveProgramHelper(ebpf.RawTracepoint, upgrades["names"][0]), ebpf.ErrNotSupported) {
		if err == nil {
			t.Error("loaded, though the kernel does not have what it needs")
		}
		t.Skipf("SKIP: this kernel cannot be asked for names: %v", err)
	}
	loaded(t, err)
	defer n.Close()
	// More than are asked for at once, and a number that fills no batch.
	symbols, err := n.Symbols(make([]uint64, 3*len(n.buffer.Addresses)+1))
	if err != nil {
		t.Fatal(err)
	}
	if len(symbols) != 3*len(n.buffer.Addresses)+1 {
		t.Errorf("%d symbols", len(symbols))
	}
	for _, symbol := range symbols {
		if !strings.HasPrefix(symbol, "0x") {
			t.Errorf("the address 0 is %q", symbol)
		}
	}
}
