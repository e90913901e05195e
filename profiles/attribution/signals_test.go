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

// rabbitmqLines are lines of RabbitMQ 3.10 of Debian 12; those of MQTT's duplicate
// ids and of limits are made of its formats.
var rabbitmqLines = []signalLine{
	{"2026-11-26 02:48:56.864597+00:00 [warning] <0.287.0> disk resource limit alarm set on node 'rabbit@10.0.0.1'.", "alarm"},
	{"2026-11-26 02:48:56.864597+00:00 [warning] <0.287.0> memory resource limit alarm set on node 'rabbit@10.0.0.1'.", "alarm"},
	{"2026-11-26 02:48:56.864597+00:00 [warning] <0.287.0> *** Publishers will be blocked until this alarm clears ***", ""},
	{"2026-11-26 02:49:12.465377+00:00 [error] <0.707.0> closing MQTT connection \"127.0.0.1:48002 -> 127.0.0.1:1883\" (login timeout)", "handshake_failed"},
	{"2026-11-26 02:49:12.465377+00:00 [error] <0.707.0> closing MQTT connection \"127.0.0.1:48002 -> 127.0.0.1:1883\" (keepalive timeout)", "heartbeats_missed"},
	{"2026-11-26 02:49:24.012366+00:00 [info] <0.728.0> accepting AMQP connection <0.728.0> (127.0.0.1:49624 -> 127.0.0.1:5672)", "connection_opened"},
	{"2026-11-26 02:49:24.014124+00:00 [warning] <0.728.0> closing AMQP connection <0.728.0> (127.0.0.1:49624 -> 127.0.0.1:5672):", "connection_closed"},
	{"2026-11-26 02:49:24.014124+00:00 [warning] <0.728.0> client unexpectedly closed TCP connection", "connection_closed_abruptly"},
	{"2026-11-26 02:49:25.517519+00:00 [error] <0.739.0> {handshake_timeout,handshake}", "handshake_failed"},
	{"2026-11-26 02:49:26.518358+00:00 [error] <0.744.0> Error on AMQP connection <0.744.0> (127.0.0.1:49656 -> 127.0.0.1:5672, state: starting):", ""},
	{"2026-11-26 02:49:26.518358+00:00 [error] <0.744.0> PLAIN login refused: user 'guest' - invalid credentials", "login_refused"},
	{"2026-11-26 02:49:28.112509+00:00 [info] <0.759.0> closing AMQP connection <0.759.0> (127.0.0.1:49662 -> 127.0.0.1:5672, vhost: '/', user: 'guest')", "connection_closed"},
	{"2026-11-26 02:49:28.112509+00:00 [warning] <0.759.0> MQTT disconnecting client <0.759.0> with duplicate id 'meter-17'", "client_id_taken"},
	{"2026-11-26 02:49:28.112509+00:00 [error] <0.759.0> access to vhost '/' refused for user 'guest': connection limit (10) is reached", "login_refused"},
	{"2026-11-26 02:49:28.112509+00:00 [error] <0.759.0> connection refused for user 'guest': user connection limit (10) is reached", "connection_limit"},
	{"2026-11-26 02:49:02.101652+00:00 [info] <0.686.0> started MQTT TCP listener on 127.0.0.1:1883", ""},
}

// ejabberdLines are lines of ejabberd 23.01 of Debian 12; that of a session that is
// replaced is made of its formats.
var ejabberdLines = []signalLine{
	{"2026-11-26 02:49:39.254460+00:00 [info] <0.336.0>@ejabberd_listener:init/4:160 Start accepting TCP connections at 127.0.0.1:1883 for mod_mqtt", ""},
	{"2026-11-26 02:49:41.462060+00:00 [info] <0.336.0>@ejabberd_listener:accept/7:273 (<0.469.0>) Accepted connection 127.0.0.1:47168 -> 127.0.0.1:1883", "connection_opened"},
	{"2026-11-26 02:49:41.463111+00:00 [info] <0.469.0>@mod_mqtt_session:register_session/3:494 Opened MQTT session for one@localhost/one from 127.0.0.1", ""},
	{"2026-11-26 02:49:42.265752+00:00 [info] <0.470.0>@mod_mqtt_session:unregister_session/2:529 Closing MQTT session for one@localhost/one from 127.0.0.1: Connection failed: connection closed", "session_closed"},
	{"2026-11-26 02:49:42.270633+00:00 [warning] <0.472.0>@mod_mqtt_session:log_disconnection/2:1435 Rejected MQTT connection from 127.0.0.1: Authentication failed: Server unavailable", "login_refused"},
	{"2026-11-26 02:49:50.003969+00:00 [warning] <0.478.0>@ejabberd_c2s:process_auth_result/3:280 (tcp|<0.478.0>) Failed c2s PLAIN authentication for joe@localhost from 127.0.0.1: Invalid username or password", "login_refused"},
	{"2026-11-26 02:49:55.215584+00:00 [info] <0.475.0>@ejabberd_c2s:process_terminated/2:295 (tcp|<0.475.0>) Closing c2s session for joe@localhost/r: Connection failed: connection closed", "session_closed"},
	{"2026-11-26 02:49:55.215584+00:00 [info] <0.475.0>@ejabberd_c2s:process_terminated/2:295 (tcp|<0.475.0>) Closing c2s session for joe@localhost/r: Stream closed by local host: Replaced by new connection (conflict)", "session_replaced"},
	{"2026-11-26 02:49:55.215584+00:00 [error] <0.475.0>@ejabberd_listener:accept/7:300 (<0.336.0>) Failed TCP accept: too many open files", "accept_failed"},
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
