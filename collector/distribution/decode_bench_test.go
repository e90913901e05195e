package distribution

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/beamprof/beamprof/collector/ordered"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// BenchmarkDecode measures what a message costs beamprof, from the kernel side's
// record to names and stack.
func BenchmarkDecode(b *testing.B) {
	testsupport.RequireBPF(b)
	p := startTraffic(b, testsupport.Options{})
	p.connect(b)
	for direction, from := range []*testsupport.VM{p.a, p.b} {
		to := []*testsupport.VM{p.b, p.a}[direction]
		b.Run([]string{"sent", "received"}[direction], func(b *testing.B) {
			in, err := newProbes(p.target, Full)
			if err != nil {
				b.Fatal(err)
			}
			defer in.close()
			if err := in.attach(); err != nil {
				b.Fatal(err)
			}
			from.Eval(b, fmt.Sprintf("traffic:casts('%[1]s', 400, 100), traffic:wait('%[1]s')", to.Node))
			if _, err := in.read(context.Background(), time.Now().Add(time.Second), maxUint64); err != nil {
				b.Fatal(err)
			}
			var records [][]byte
			in.pending.Flush(ordered.All, func(raw []byte) { records = append(records, slices.Clone(raw)) })
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				in.decoder.decode(records[i%len(records)])
			}
		})
	}
}
