package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beamprof/beamprof/internal/testsupport"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/diagnosis"
	"github.com/beamprof/beamprof/profiles/summary"
	"github.com/beamprof/beamprof/testbed"
)

// scenario is a load on the testbed, and the causes that are likely then. No
// other cause may be: what is possible is no error, but says less.
type scenario struct {
	name   string
	load   testbed.Scenario
	nodes  testbed.Options
	likely []string // of both nodes together
	// On each node alone, where the other's evidence is not known.
	alone [2][]string
	// Causes that are unlikely on both nodes together.
	unlikely []string
}

const (
	isStorm = attribution.ConnectionStorm
	isStale = attribution.InconsistentState
	isSpin  = attribution.BusyWait
	isNone  = attribution.NoneOfThese
)

var (
	storms  = []string{isStorm}
	stale   = []string{isStale}
	twofold = []string{isStorm, isStale}
	spins   = []string{isSpin}
	noneOf  = []string{isNone}
	nothing = []string(nil)
)

// scenarios are those a diagnosis must be right for, every time. Only the node
// that fetches (the second) writes of exchanges: the one that serves cannot
// tell alone whether they are empty.
var scenarios = []scenario{
	{name: "storm", load: testbed.Scenario{Name: "churn"}, likely: storms, alone: [2][]string{storms, storms}, unlikely: []string{isStale, isSpin, isNone}},
	{name: "empty sync", load: testbed.Scenario{Name: "ae"}, likely: stale, alone: [2][]string{nothing, stale}, unlikely: []string{isStorm, isSpin, isNone}},
	{name: "both", load: testbed.Scenario{Name: "mixed1"}, likely: twofold, alone: [2][]string{storms, twofold}, unlikely: []string{isSpin, isNone}},
	{name: "heavy publishing", load: testbed.Scenario{Name: "publish", Rates: map[string]int{"publish": 4000}}, likely: noneOf, alone: [2][]string{noneOf, noneOf}, unlikely: []string{isStorm, isStale, isSpin}},
	{name: "well-behaved connects", load: testbed.Scenario{Name: "connects"}, likely: noneOf, alone: [2][]string{noneOf, noneOf}, unlikely: []string{isStorm, isStale, isSpin}},
	{name: "idle, spinning", load: testbed.Scenario{Name: "idle"}, nodes: testbed.Options{BusyWait: "very_long", Flags: []string{"-eval", ticking}}, likely: spins, alone: [2][]string{spins, spins}, unlikely: []string{isStorm, isStale, isNone}},
	{name: "storm over TLS", load: testbed.Scenario{Name: "churn", TLS: true}, nodes: testbed.Options{TLS: true}, likely: storms, alone: [2][]string{storms, storms}, unlikely: []string{isStale, isNone}},
}

// ticking is an Erlang expression, without blanks, that wakes a scheduler up
// each 5 ms for nothing.
const ticking = "spawn(fun()->(fun(F)->timer:sleep(5),F(F)end)(fun(F)->timer:sleep(5),F(F)end)end)."

// startTestbed starts the testbed, compiled into build.
func startTestbed(t testing.TB, o testbed.Options, build string) *testbed.Cluster {
	t.Helper()
	testsupport.RequireErlang(t)
	testsupport.RequireCommand(t, "cc", "gcc")
	if o.TLS {
		testsupport.RequireCommand(t, "openssl", "openssl")
	}
	t.Setenv("BEAMPROF_ERL", testsupport.Erl())
	o.Build, o.MaxLife = build, 10*time.Minute
	c, err := testbed.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// observed is what `beamprof record` found on both nodes.
type observed [2]*summary.Summary

// observe puts a load on the testbed and records both nodes meanwhile.
func (s *scenario) observe(t testing.TB, c *testbed.Cluster, seconds, frequency int) (o observed) {
	t.Helper()
	load := s.load
	load.Seconds = seconds + 4
	load.Observe = func(context.Context) error { // to its end, also if that is after the load's
		var all sync.WaitGroup
		var errs [2]error
		for i, node := range c.Nodes {
			all.Go(func() {
				o[i], errs[i] = recordOnce(t.Context(), node.PID, seconds, frequency, filepath.Join(t.TempDir(), node.Name))
			})
		}
		all.Wait()
		return errors.Join(errs[:]...)
	}
	if _, err := c.Run(t.Context(), load); err != nil {
		t.Fatal(err)
	}
	return o
}

// recordOnce runs `beamprof record` and reads what it wrote.
func recordOnce(ctx context.Context, pid, seconds, frequency int, dir string) (*summary.Summary, error) {
	command := exec.CommandContext(ctx, binary, "record", "--pid", strconv.Itoa(pid), "--duration", fmt.Sprint(seconds, "s"), "--frequency", strconv.Itoa(frequency), "--output", dir)
	var messages bytes.Buffer
	command.Stderr = &messages
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, &messages)
	}
	r, err := readRecording(dir)
	return r.summary, err
}

// likely returns the likely causes, in the order of all.
func likely(verdicts []summary.Diagnosis) []string {
	var found []string
	for _, cause := range []string{isStorm, isStale, isSpin, isNone} {
		if verdictOn(verdicts, cause) == summary.VerdictLikely {
			found = append(found, cause)
		}
	}
	return found
}

func verdictOn(verdicts []summary.Diagnosis, cause string) string {
	for _, d := range verdicts {
		if d.Cause == cause {
			return d.Verdict
		}
	}
	return ""
}

// joined is the diagnosis of both nodes together.
func (o observed) joined() []summary.Diagnosis {
	rules, _ := attribution.Builtin("vernemq")
	return diagnosis.Of(o[:], rules)
}

// wrong says what is wrong with the diagnoses; empty if nothing is.
func (s *scenario) wrong(o observed) string {
	var wrong []string
	together := o.joined()
	if got := likely(together); fmt.Sprint(got) != fmt.Sprint(s.likely) {
		wrong = append(wrong, fmt.Sprintf("both nodes: likely is %v, not %v", got, s.likely))
	}
	for _, cause := range s.unlikely {
		if verdict := verdictOn(together, cause); verdict != summary.VerdictUnlikely {
			wrong = append(wrong, fmt.Sprintf("both nodes: %s is %s", cause, verdict))
		}
	}
	for i := range o {
		if got := likely(o[i].Diagnosis); fmt.Sprint(got) != fmt.Sprint(s.alone[i]) {
			wrong = append(wrong, fmt.Sprintf("node %d: likely is %v, not %v", i+1, got, s.alone[i]))
		}
	}
	return strings.Join(wrong, "\n")
}

// TestDiagnosisOfTheTestbed: record finds the cause of each kind of load. All
// scenarios, three times each and for longer, are in BenchmarkDiagnosis.
func TestDiagnosisOfTheTestbed(t *testing.T) {
	testsupport.RequireBPF(t)
	c := startTestbed(t, testbed.Options{}, t.TempDir())
	for _, s := range scenarios {
		if s.name != "storm" && s.name != "both" && s.name != "heavy publishing" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			// On a fast machine these loads are some 100 samples in 5 s at 99 Hz.
			o := s.observe(t, c, 5, 499)
			if wrong := s.wrong(o); wrong != "" {
				t.Error(wrong)
				for _, n := range o {
					t.Logf("%s: %+v", n.Target.Node, n.Diagnosis)
				}
			}
		})
	}
}

// BenchmarkDiagnosis runs every scenario three times and prints what was found:
//
//	go test ./cmd/beamprof -run '^$' -bench Diagnosis -benchtime 1x -timeout 30m
func BenchmarkDiagnosis(b *testing.B) {
	testsupport.RequireBPF(b)
	const runs, seconds = 3, 12
	build := b.TempDir()
	for _, s := range scenarios {
		b.Run(strings.ReplaceAll(s.name, " ", "_"), func(b *testing.B) {
			c := startTestbed(b, s.nodes, build)
			right := 0
			for range runs {
				o := s.observe(b, c, seconds, 99)
				wrong := s.wrong(o)
				if wrong == "" {
					right++
				} else {
					for _, n := range o {
						b.Logf("%s: %+v", n.Target.Node, n.Diagnosis)
					}
				}
				fmt.Printf("%-22s  %s  |  %s  |  %s  %s\n", s.name, verdicts(o.joined()), verdicts(o[0].Diagnosis), verdicts(o[1].Diagnosis), strings.ReplaceAll(wrong, "\n", "; "))
			}
			b.ReportMetric(float64(right), "right-of-3")
			if right < runs {
				b.Errorf("%d of %d are right", right, runs)
			}
		})
	}
}

// verdicts prints the verdicts in a fixed order, in short: storm, stale, spin, none.
func verdicts(all []summary.Diagnosis) string {
	var short []string
	for _, cause := range []string{isStorm, isStale, isSpin, isNone} {
		short = append(short, fmt.Sprintf("%-8s", verdictOn(all, cause)))
	}
	return strings.Join(short, " ")
}
