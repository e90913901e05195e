package diagnosis

import (
	"bytes"
	"testing"

	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/summary"
)

// FuzzOf: whatever the numbers are, each cause gets a verdict, and no more than
// one of none_of_these and the others is likely.
func FuzzOf(f *testing.F) {
	for _, s := range []*summary.Summary{with(node(1, 0.3, churning), spam, connections(100, stormy)), with(node(1, 0.1, exchanges), empty), {}} {
		s.Schema = summary.Schema
		var b bytes.Buffer
		if err := s.Write(&b); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte(`{"schema":"beamprof.summary/1","window":{"duration_seconds":1e-300},"cpu":{"samples":99,"process_seconds":1e300},"workloads":[{"name":"client_churn","share_without_vm":-1}],"states":[{"name":"busy_wait","share":1e308}],"connections":{"mqtt":{"connects":20}},"logs":[{"signal":"empty_sync","in_window":18446744073709551615}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := summary.Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, name := range attribution.Names() {
			rules, _ := attribution.Builtin(name)
			for _, nodes := range [][]*summary.Summary{{s}, {s, s}} {
				found := Of(nodes, rules)
				if len(found) != len(rules.Causes) {
					t.Fatalf("%d verdicts on %d causes", len(found), len(rules.Causes))
				}
				likely := 0
				for _, d := range found {
					if rank(d.Verdict) < 0 || d.Evidence == nil || d.Advice == nil {
						t.Errorf("%+v", d)
					}
					if d.Verdict == summary.VerdictLikely && (d.Cause == attribution.NoneOfThese || likely == 0) {
						likely++
					}
				}
				if likely > 1 {
					t.Errorf("%+v", found)
				}
			}
		}
	})
}
