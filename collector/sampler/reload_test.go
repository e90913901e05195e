package sampler_test

import (
	"context"
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/sampler"
	"github.com/beamprof/beamprof/internal/testsupport"
)

//go:embed testdata/reload.erl
var reloadSource string

// versionRun is when a process ran a version of a module.
type versionRun struct {
	version  int
	from, to uint64 // CLOCK_MONOTONIC, ns
}

// TestReloadedCode samples code that is loaded anew, elsewhere, and purged all the
// time: every function is named as in the version that ran at that time.
func TestReloadedCode(t *testing.T) {
	testsupport.RequireBPF(t)
	t.Run("told by a uprobe", func(t *testing.T) {
		share, versions := profileReloads(t, 40, false)
		// What is left: a return address of before, where a frame begins to be built.
		if share < 0.999 || versions < 10 {
			t.Errorf("%.3f%% of the samples of %d versions are named by the version that ran, want 99.9%%", 100*share, versions)
		}
	})
	// What was loaded between two looks, at the place of what was purged, cannot be
	// told apart; the less is loaded, the less of it there is.
	t.Run("polled", func(t *testing.T) {
		share, versions := profileReloads(t, 500, true)
		if share < 0.85 || versions < 3 {
			t.Errorf("%.2f%% of the samples of %d versions are named by the version that ran, want 85%%", 100*share, versions)
		}
	})
}

// profileReloads samples a VM that loads a version each interval (ms). It returns
// which share of the samples is named right, and how many versions were sampled.
func profileReloads(t *testing.T, interval int, poll bool) (share float64, versions int) {
	t.Helper()
	vm := testsupport.StartVM(t, testsupport.Options{
		Flags:   []string{"+S", "2", "+sbwt", "none"},
		Modules: map[string]string{"reload": reloadSource},
	})
	target, err := beam.Attach(vm.PID)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	session, err := sampler.Open(target, sampler.Options{Frequency: 1999})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if poll {
		if err := sampler.DropCodeProbe(session); err != nil {
			t.Fatal(err)
		}
	}
	vm.Eval(t, fmt.Sprintf("reload:start(2, %d)", interval))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var samples []captured
	if err := session.Run(ctx, func(s *collector.Sample) {
		samples = append(samples, captured{*s, slices.Clone(s.Stack)})
	}); err != nil {
		t.Fatal(err)
	}
	loaded := vm.Eval(t, "reload:stop()")
	share, versions = checkVersions(t, samples, readRuns(t, vm))
	t.Logf("%d samples, %s versions loaded, %d of them sampled; %.2f%% named right", len(samples), loaded, versions, 100*share)
	return share, versions
}

func readRuns(t *testing.T, vm *testsupport.VM) map[string][]versionRun {
	t.Helper()
	runs := map[string][]versionRun{}
	for line := range strings.Lines(string(vm.EvalBytes(t, "reload:ran()"))) {
		var pid string
		var r versionRun
		if _, err := fmt.Sscan(line, &pid, &r.version, &r.from, &r.to); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		runs[pid] = append(runs[pid], r)
	}
	return runs
}

var versionName = regexp.MustCompile(`^reloaded:(?:first|second)_(\d+)/[12]$`)

// checkVersions compares the versions in the names of samples with those that
// their processes ran. All names in one stack must be of one version, and there
// must be no code without a name.
func checkVersions(t *testing.T, samples []captured, runs map[string][]versionRun) (share float64, versions int) {
	t.Helper()
	checked, right, unresolved := 0, 0, 0
	seen, wrong := map[string]bool{}, map[string]int{}
	places, shared := map[uint64]string{}, map[uint64]bool{} // code addresses by version
	for _, s := range samples {
		found := map[string]bool{}
		for _, f := range s.stack {
			if f.Kind == collector.FrameErlang && !f.Resolved {
				unresolved++
			}
			if match := versionName.FindStringSubmatch(f.Function); match != nil {
				found[match[1]] = true
				if before, ok := places[f.Address]; ok && before != match[1] {
					shared[f.Address] = true
				}
				places[f.Address] = match[1]
			}
		}
		if s.Process == nil || !slices.Contains(s.erlang(), "reloaded:run/0") {
			continue
		}
		want, ok := versionAt(runs[s.Process.PID], s.Time)
		if !ok {
			continue // between two versions
		}
		checked++
		if len(found) == 0 || len(found) == 1 && found[want] {
			right++
			seen[want] = true
			continue
		}
		wrong[fmt.Sprintf("version %s ran, %q", want, s.erlang())]++
	}
	if unresolved > 0 {
		t.Errorf("%d frames have no name", unresolved)
	}
	if checked < 500 {
		t.Fatalf("only %d samples to compare", checked)
	}
	t.Logf("%d of %d places in code had functions of several versions", len(shared), len(places))
	logMost(t, wrong, 5)
	return float64(right) / float64(checked), len(seen)
}

// versionAt returns the version that a process ran at a time.
func versionAt(runs []versionRun, at uint64) (string, bool) {
	for _, r := range runs {
		if r.version > 0 && at >= r.from && at <= r.to {
			return fmt.Sprint(r.version), true
		}
	}
	return "", false
}
