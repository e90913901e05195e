package attribution

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/beamprof/beamprof/collector/logs"
)

// signalLine is a line of a log and the signal that it is; empty if it is none.
type signalLine struct{ line, signal string }

// vernemqLines are lines of VerneMQ 1.13 in lager's format and of 2.x.
var vernemqLines = []signalLine{
	{"2026-11-22 13:13:01.658 [error] <0.522.0>@vmq_queue:wait_for_offline:{290,25} got unknown sync event in wait_for_offline state {cleanup,session_taken_over}", "unknown_sync_event"},
	{"2026-11-22T13:13:01.658000+00:00 [error] <0.522.0> vmq_queue:drain/3:332: got unknown sync event in drain state {cleanup,session_taken_over}", "unknown_sync_event"},
	{"2026-11-22 13:13:01.658 [info] <0.522.0>@vmq_swc_exchange_fsm:local_sync_repair:{135,13} Replica meta3: AE exchange with 'VerneMQ@10.0.0.2' synced 200 objects", "ae_exchange"},
	{"2026-11-22 13:13:01.658 [warning] <0.522.0>@vmq_swc_exchange_fsm:prepare:{61,13} Replica meta3: AE exchange with 'VerneMQ@10.0.0.2' prepare step timed out in prepare", "exchange_failed"},
	{"2026-11-22 13:13:01.658 [warning] <0.522.0>@vmq_swc_exchange_fsm:prepare:{61,13} Replica meta3: couldn't request remote node clock due to timeout", "exchange_failed"},
	{"2026-11-22 13:13:01.658 [warning] <0.522.0>@vmq_swc_exchange_fsm:prepare:{61,13} Replica meta3: couldn't request remote watermark due to timeout", "exchange_failed"},
	{"2026-11-22 13:13:01.658 [error] <0.522.0>@vmq_swc_exchange_fsm:prepare:{61,13} Replica meta3: can't acquire local lock due to locked", "exchange_failed"},
	{"2026-11-22 13:13:01.658 [error] <0.522.0>@vmq_swc_exchange_fsm:x:{61,13} Replica meta3: couldn't sync repair local store due to timeout", "exchange_failed"},
	{"2026-11-22 13:13:01.658 [error] <0.522.0>@vmq_mqtt_fsm:check_user:{61,13} can't register client {[],<<\"id\">>} with username <<\"joe\">> due to not_ready", "registration_failed"},
	{"2026-11-22 13:13:01.658 [error] <0.522.0>@vmq_mqtt_fsm:check_user:{61,13} can't register client {[],<<\"id\">>} due to reason register_subscriber_retry_exhausted", "registration_failed"},
	{"2026-11-22 13:13:01.658 [error] <0.522.0>@vmq_queue:drain:{61,13} can't drain queue '{[],<<\"id\">>}' for [<0.1.0>]['VerneMQ@10.0.0.2'] due to retries_exhausted", "drain_failed"},
	{"2026-11-22 13:13:01.658 [warning] <0.522.0>@vmq_queue:drain:{61,13} drain queue '{[],<<\"id\">>}' for [<0.1.0>]['VerneMQ@10.0.0.2'] remote_enqueue failed due to not_found", "drain_failed"},
	{"2026-11-22 13:13:01.658 [warning] <0.522.0>@vmq_mqtt_fsm:x:{61,13} client {[],<<\"id\">>} with username <<\"joe\">> stopped due to keepalive expired", "keepalive_expired"},
	{"2026-11-22 13:13:01.658 [warning] <0.522.0>@vmq_ranch:x:{61,13} session stopped abnormally due to 'normal'", "session_ended_abnormally"},
	{"2026-11-22 13:13:01.658 [info] <0.522.0>@plumtree_metadata_exchange_fsm:x:{61,13} completed metadata exchange with 'VerneMQ@10.0.0.2'. repaired 1 missing local prefixes, 0 missing remote prefixes, and 7 keys", "ae_exchange"},
	{"2026-11-22 13:13:01.658 [info] <0.522.0>@vmq_server_app:start:{61,13} loaded 3 subscriptions into vmq_reg_trie", ""},
}

// TestSignals: each of the lines that a system is known to write is the right signal, and no other.
func TestSignals(t *testing.T) {
	for name, lines := range map[string][]signalLine{"vernemq": vernemqLines, "rabbitmq": rabbitmqLines, "ejabberd": ejabberdLines} {
		t.Run(name, func(t *testing.T) { testSignals(t, name, lines) })
	}
}

func testSignals(t *testing.T, name string, lines []signalLine) {
	rules, _ := Builtin(name)
	var signals []logs.Signal
	for _, s := range rules.Signals {
		signals = append(signals, s.Signal)
	}
	for _, c := range lines {
		file := filepath.Join(t.TempDir(), "console.log")
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := logs.Open(logs.Options{Files: []string{file}, Signals: signals})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(c.line+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		s.Run(ended)
		counts := s.Result().Counts
		s.Close()
		if c.signal == "" && len(counts) != 0 || c.signal != "" && (len(counts) != 1 || counts[0].Signal.Name != c.signal || counts[0].Count != 1) {
			t.Errorf("%s\n%+v, not %s", c.line, counts, c.signal)
		}
	}
}
