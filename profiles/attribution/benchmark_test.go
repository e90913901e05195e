package attribution

import (
	"fmt"
	"testing"

	"github.com/beamprof/beamprof/collector"
)

// BenchmarkAttribute measures what attribution adds to a sample on the user
// side: samples of 40 frames of a few hundred processes, half of them decided
// by a chain of three who wait, a tenth split at the end of their second.
func BenchmarkAttribute(b *testing.B) {
	w := newWho()
	deep := func(i int, names ...string) []string {
		for n := range 38 {
			names = append(names, fmt.Sprintf("module%d:function%d/1", i%7, n))
		}
		return append(names, "gen_server:handle_msg/6", "proc_lib:init_p_do_apply/3")
	}
	var samples []*collector.Sample
	for i := range 500 {
		var s *collector.Sample
		switch {
		case i%10 == 0:
			s = w.native("Eleveldb", "#leveldb::BlockReader")
		case i%2 == 0:
			s = w.asked(w.sample("vmq_swc_db_metaN", "call get", deep(i, "eleveldb:get/3")...),
				"vmq_swc_store_metaN | call batch | vmq_swc_store:process_write_op/3", "vmq_swc_store_batcher_metaN")
		default:
			s = w.sample("vmq_ranch:init/4", "", deep(i, "vmq_mqtt_fsm:connected/2")...)
			s.Process = &collector.Process{Name: "vmq_ranch:init/4", Kind: "vmq_ranch:init/4", InitialCall: "vmq_ranch:init/4"}
		}
		samples = append(samples, s)
	}
	a := New(builtin(b, "vernemq"), period, func(*collector.Sample, Part) {})
	time := uint64(1)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s := samples[i%len(samples)]
		time += period / 2 // two busy cores
		s.Time = time
		a.Add(s)
	}
	a.Close()
}

// BenchmarkBuiltin measures reading a rule set, once per recording.
func BenchmarkBuiltin(b *testing.B) {
	for b.Loop() {
		Builtin("vernemq")
	}
}
