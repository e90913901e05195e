package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
)

func TestLoadDistribution(t *testing.T) {
	p, err := LoadDistribution(Distribution{Pid: 1})
	loaded(t, err)
	defer p.Close()
	for _, program := range []*ebpf.Program{p.Sent, p.Received} {
		info, err := program.Info()
		if err != nil {
			t.Fatal(err)
		}
		if verified, ok := info.VerifiedInstructions(); ok {
			t.Logf("%s: the verifier walked %d instructions of at most a million", info.Name, verified)
		}
	}
	if err := p.AddStack(1, 4096); err != nil {
		t.Fatal(err)
	}
	if traffic, err := p.Traffic(); err != nil || len(traffic) != 0 {
		t.Errorf("traffic of no VM: %v, %v", traffic, err)
	}
	if counts, err := p.Counts(); err != nil || counts != (DistributionCounts{}) {
		t.Errorf("counts of no VM: %v, %v", counts, err)
	}
}
