package bpf

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
)

func TestLoadMQTT(t *testing.T) {
	p := connectionPrograms(t)
	m, err := LoadMQTT(p)
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		t.Fatalf("%+v", verifier)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	info, err := m.Filter.Info()
	if err != nil {
		t.Fatal(err)
	}
	if verified, ok := info.VerifiedInstructions(); ok {
		t.Logf("%s: the verifier walked %d instructions of at most a million", info.Name, verified)
	}
	if err := errors.Join(m.AddPort(1883), m.AddPort(1884), m.AddPort(65535)); err != nil {
		t.Fatal(err)
	}
	if counts, err := m.Counts(); err != nil || counts != (PacketCounts{}) {
		t.Errorf("counts of no packets: %v, %v", counts, err)
	}
}
