package sampler_test

import (
	_ "embed"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/internal/testsupport"
)

//go:embed testdata/ends.erl
var endsSource string

// TestProcessesThatEnd samples processes while they end. When their heaps are freed
// they are no scheduler's current process any more.
func TestProcessesThatEnd(t *testing.T) {
	testsupport.RequireBPF(t)
	for _, flags := range [][]string{{"+S", "1"}, {"+S", "1", "+JPperf", "true"}} {
		vm := testsupport.StartVM(t, testsupport.Options{Flags: flags, Modules: map[string]string{"ends": endsSource}, Eval: "ends:start()"})
		samples, _ := profile(t, vm, 997, 2*time.Second)
		ending, named := 0, 0
		wrong := map[string]int{}
		for _, s := range samples {
			if s.Thread.Kind != collector.ThreadScheduler || !slices.Contains(s.names(), "erts_continue_exit_process") {
				continue
			}
			ending++
			switch {
			case s.Process == nil:
				wrong["of no process: "+strings.Join(s.names(), " < ")]++
			case s.Process.InitialCall == "ends:child/0" && s.Process.Parent == "ends:parent/0" && s.State == collector.StateEmulator:
				named++
			default:
				wrong[s.Process.Name+": "+strings.Join(s.names(), " < ")]++
			}
		}
		t.Logf("%q: %d samples, %d of processes that end, %d of them named", flags, len(samples), ending, named)
		if ending < 50 || float64(named) < 0.98*float64(ending) {
			t.Error("processes that end are not known")
		}
		logMost(t, wrong, 10)
	}
}
