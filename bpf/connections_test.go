package bpf

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
)

// connectionPrograms loads the programs, or skips as loaded does.
func connectionPrograms(t testing.TB) *ConnectionPrograms {
	t.Helper()
	p, err := LoadConnections()
	loaded(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

func TestLoadConnections(t *testing.T) {
	p := connectionPrograms(t)
	for _, program := range []*ebpf.Program{p.FromOutside, p.FromTarget, p.Reset} {
		info, err := program.Info()
		if err != nil {
			t.Fatal(err)
		}
		if verified, ok := info.VerifiedInstructions(); ok {
			t.Logf("%s: the verifier walked %d instructions of at most a million", info.Name, verified)
		}
	}
	if err := errors.Join(p.AddListener([16]byte{15: 1}, 1883, 0), p.AddListener([16]byte{}, 1883, NotTheTargets), p.Set(ConnectionSettings{})); err != nil {
		t.Fatal(err)
	}
	if totals, err := p.Totals(0); err != nil || totals != (ConnectionTotals{}) {
		t.Errorf("totals of no connections: %v, %v", totals, err)
	}
	if failed, missed, err := p.Lost(); failed+missed != 0 || err != nil {
		t.Errorf("lost of no connections: %d, %d, %v", failed, missed, err)
	}
}
