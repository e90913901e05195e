package sampler_test

import (
	_ "embed"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/procfs"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/internal/testsupport"
)

//go:embed testdata/mixed.erl
var mixedSource string

// mapped is a line of the map that a VM writes for perf: a range of code.
type mapped struct {
	start, end uint64
	name       string
}

// perfMap is a VM's map of its code, by start.
type perfMap []mapped

func readPerfMap(t *testing.T, path string) perfMap {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m perfMap
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		if len(fields) != 3 {
			t.Fatalf("line %q", line)
		}
		start, e1 := strconv.ParseUint(strings.TrimPrefix(fields[0], "0x"), 16, 64)
		size, e2 := strconv.ParseUint(strings.TrimPrefix(fields[1], "0x"), 16, 64)
		if e1 != nil || e2 != nil {
			t.Fatalf("line %q", line)
		}
		name := strings.TrimSuffix(strings.TrimPrefix(fields[2], "$"), "-CodeInfoPrologue")
		m = append(m, mapped{start, start + size, name})
	}
	slices.SortStableFunc(m, func(a, b mapped) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return 0
	})
	return m
}

func (m perfMap) name(pc uint64) (string, bool) {
	at, found := slices.BinarySearchFunc(m, pc, func(e mapped, pc uint64) int {
		switch {
		case e.start < pc:
			return -1
		case e.start > pc:
			return 1
		}
		return 0
	})
	if !found {
		at--
	}
	if at < 0 || pc >= m[at].end {
		return "", false
	}
	return m[at].name, true
}

// fileMappings returns what a process has mapped of its executable and libraries.
func fileMappings(t *testing.T, pid int) (files []*procfs.ProcMap) {
	t.Helper()
	process, err := procfs.NewProc(pid)
	if err != nil {
		t.Fatal(err)
	}
	maps, err := process.ProcMaps()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range maps {
		if _, err := os.Stat(m.Pathname); err == nil && m.Perms.Execute {
			files = append(files, m)
		}
	}
	return files
}

func inAny(files []*procfs.ProcMap, address uint64) bool {
	return slices.ContainsFunc(files, func(m *procfs.ProcMap) bool { return uint64(m.StartAddr) <= address && address < uint64(m.EndAddr) })
}

// TestNamesEqualPerfMap samples a VM that runs through much of OTP: the function
// of every place in JIT code, where a thread was or will return to, is the one
// that the VM itself tells perf.
func TestNamesEqualPerfMap(t *testing.T) {
	testsupport.RequireBPF(t)
	vm := testsupport.StartVM(t, testsupport.Options{
		Flags:   []string{"+S", "2", "+sbwt", "none", "+JPperf", "map"},
		Modules: map[string]string{"mixed": mixedSource},
	})
	source := filepath.Join(vm.Dir, "mixed.erl")
	if err := os.WriteFile(source, []byte(mixedSource), 0o644); err != nil {
		t.Fatal(err)
	}
	vm.Eval(t, "mixed:start(\""+source+"\")")
	time.Sleep(time.Second)
	samples, stats := profile(t, vm, 1999, 5*time.Second)
	truth, files := readPerfMap(t, vm.PerfMap()), fileMappings(t, vm.PID)

	type spot struct {
		pc   uint64
		name string
	}
	seen, frames := map[spot]bool{}, map[*collector.Frame]bool{}
	functions, modules := map[string]bool{}, map[string]bool{}
	wrong, unknown := map[string]int{}, 0
	for _, s := range samples {
		for _, f := range s.stack {
			if f.Kind != collector.FrameErlang || f.Mapping == nil || f.Mapping.File != "[beam jit]" || frames[f] {
				continue
			}
			want, ok := truth.name(f.Address)
			if want == "global::process_main" && f.Function != want || !ok && inAny(files, f.Address) {
				continue // a BIF or NIF, whose code is C
			}
			frames[f], seen[spot{f.Address, f.Function}] = true, true
			if !ok {
				unknown++
			}
			if !ok || f.Function != want || !f.Resolved {
				wrong[f.Function+" is "+want]++
			}
			functions[f.Function] = true
			module, _, _ := strings.Cut(f.Function, ":")
			modules[module] = true
		}
	}
	t.Logf("%d samples, %d places in %d functions of %d modules; %d unsymbolized frames, %d partial, %d lost",
		stats.Samples, len(seen), len(functions), len(modules), stats.UnsymbolizedFrames, stats.Partial, stats.Lost)
	if len(seen) < 1000 || len(modules) < 50 {
		t.Errorf("only %d places in %d modules were sampled", len(seen), len(modules))
	}
	if len(wrong) > 0 {
		t.Errorf("%d places have other names than the VM gives them (%d of them none)", len(wrong), unknown)
		logMost(t, wrong, 20)
	}
}
