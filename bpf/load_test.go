package bpf

import (
	"errors"
	"os"
	"testing"

	"github.com/cilium/ebpf"
)

// loaded checks that programs were loaded, or skips where the machine does not
// allow it; with BEAMPROF_REQUIRE_BPF=1 that is a failure.
func loaded(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, os.ErrPermission) && os.Geteuid() != 0 && os.Getenv("BEAMPROF_REQUIRE_BPF") != "1" {
		t.Skipf("SKIP: loading BPF programs needs root: %v", err)
	}
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		t.Fatalf("%+v", verifier)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func load(t testing.TB) *Programs {
	t.Helper()
	p, err := Load()
	loaded(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

func TestLoad(t *testing.T) {
	p := load(t)
	for _, program := range []*ebpf.Program{p.Sample, p.Code} {
		info, err := program.Info()
		if err != nil {
			t.Fatal(err)
		}
		if verified, ok := info.VerifiedInstructions(); ok {
			t.Logf("%s: the verifier walked %d instructions of at most a million", info.Name, verified)
		}
	}
}

func TestTargetsAndSchedulers(t *testing.T) {
	p := load(t)
	if err := p.AddTarget(1, Target{CurrentProcess: 168}); err != nil {
		t.Fatal(err)
	}
	if err := p.AddScheduler(1, Scheduler{Data: 4096}); err != nil {
		t.Fatal(err)
	}
	if err := p.RemoveScheduler(1); err != nil {
		t.Fatal(err)
	}
	if samples, err := p.Samples(1); samples != 0 || err != nil {
		t.Fatalf("samples of a process that does not run: %d, %v", samples, err)
	}
	if err := p.RemoveTarget(1); err != nil {
		t.Fatal(err)
	}
	if err := p.RemoveTarget(1); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Fatalf("removing a target twice: %v", err)
	}
	if failed, err := p.OutputFailed(); failed != 0 || err != nil {
		t.Fatalf("failures of an idle sampler: %d, %v", failed, err)
	}
}
