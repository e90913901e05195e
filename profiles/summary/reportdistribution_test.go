package summary

import (
	"bytes"
	"strings"
	"testing"
)

func TestReportOfDistribution(t *testing.T) {
	s := &Summary{Schema: Schema, Distribution: &Distribution{
		Detail: "sampled", Every: 12,
		Peers: []Peer{
			{Node: "b@10.0.0.2", SentBytes: 12_345_678, SentMessages: 1000, ReceivedBytes: 999, ReceivedMessages: 1, UnknownSockets: 1,
				Workloads: map[string]float64{"ae_exchange": 0.75, "client_churn": 0.249, "vm": 0.001}},
			{},
		},
		Messages: []Messages{
			{Direction: "sent", Destination: "vmq_swc_edist_meta1", RequestType: "call", Request: "apply vmq_swc_store:rpc_sync_missing", Messages: 900, Bytes: 12_000_000},
			{Direction: "received", Destination: "\x1b[2J", Bytes: 10},
		},
	}}
	var out bytes.Buffer
	if err := s.Report(&out, Style{All: true}, ""); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"TRAFFIC WITH OTHER NODES", "1 message in 12", "b@10.0.0.2",
		"sent 12.3 MB in 1000 messages, received 999 B in 1 message", "1 connection,",
		"for ae_exchange 75%, client_churn 25%\n", "connections too short to be named",
		"12 MB sent     vmq_swc_edist_meta1 <- call apply vmq_swc_store:rpc_sync_mis", "other signals",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("an escape sequence came through")
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > 81 {
			t.Errorf("wide line %q", line)
		}
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1 kB", 12_345: "12.3 kB", 999_600: "1 MB", 1 << 63: "9.22 EB"} {
		if got := size(bytes); got != want {
			t.Errorf("%d: %s, not %s", bytes, got, want)
		}
	}
}
