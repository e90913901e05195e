package sampler

import (
	"bufio"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/internal/testsupport"
)

var noKernelCode = []uint64{0, 1, 0x7fff_ffff_f000, 1 << 63, ^uint64(0)}

// kernelAddresses returns for every function in /proc/kallsyms its first
// address, one within it and the one before it.
func kernelAddresses(t *testing.T) []uint64 {
	t.Helper()
	file, err := os.Open("/proc/kallsyms")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var addresses []uint64
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		// Programs of BPF come and go.
		if !strings.Contains("tTwW", fields[1]) || fields[len(fields)-1] == "[bpf]" {
			continue
		}
		start, err := strconv.ParseUint(fields[0], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, start, start+5, start-1)
	}
	if len(addresses) < 10_000 {
		t.Fatalf("only %d addresses", len(addresses))
	}
	return addresses
}

// TestKernelNamesAreTheTables compares what the kernel says, where it can be
// asked, with what /proc/kallsyms says, for all functions there are.
func TestKernelNamesAreTheTables(t *testing.T) {
	testsupport.RequireBPF(t)
	asked := &kernelNames{}
	table := &kernelNames{tried: true}
	addresses := append(noKernelCode, kernelAddresses(t)...)
	got, err := asked.functions(addresses)
	if err != nil {
		t.Fatal(err)
	}
	defer asked.close()
	if asked.namer == nil {
		_, err := bpf.LoadKernelNamer()
		if !errors.Is(features.HaveProgramHelper(ebpf.RawTracepoint, asm.FnSnprintf), ebpf.ErrNotSupported) {
			t.Fatalf("the kernel can be asked for names, and was not: %v", err)
		}
		t.Skipf("SKIP: the kernel is older than 5.13: %v", err)
	}
	want, err := table.functions(addresses)
	if err != nil {
		t.Fatal(err)
	}
	named, different := 0, 0
	for i, address := range addresses {
		if i < len(noKernelCode) && got[i] != "" {
			t.Errorf("%#x is %q", address, got[i])
		}
		// The table does not tell where a function ends, and so takes no address
		// that is far behind the last one for code.
		if want[i] == "" {
			continue
		}
		named++
		if got[i] == want[i] || strings.HasPrefix(got[i], "bpf_") || strings.HasPrefix(want[i], "bpf_") {
			continue
		}
		if different++; different <= 20 {
			t.Errorf("%#x: the kernel says %q, its table %q", address, got[i], want[i])
		}
	}
	t.Logf("%d of %d addresses have names, %d have another one", named, len(addresses), different)
}

// TestKernelFramesAreNamedEitherWay names frames by asking and from the table.
func TestKernelFramesAreNamedEitherWay(t *testing.T) {
	testsupport.RequireBPF(t)
	addresses := append(noKernelCode, kernelAddresses(t)[:200]...)
	name := func(names *kernelNames) (frames []*collector.Frame) {
		defer names.close()
		f := newFrames(nil, nil)
		for _, address := range addresses {
			frames = append(frames, f.kernelFrame(address).Frame)
		}
		if err := f.nameKernel(names); err != nil {
			t.Fatal(err)
		}
		return frames
	}
	asked, table := name(&kernelNames{}), name(&kernelNames{tried: true})
	for i := range asked {
		if asked[i].Function != table[i].Function || asked[i].Resolved != table[i].Resolved || asked[i].Function == "" {
			t.Errorf("%#x: %+v, %+v", addresses[i], asked[i], table[i])
		}
	}
}
