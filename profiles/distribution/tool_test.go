package distribution

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

// TestToolPprof: who sends most, in bytes and in messages, and to whom, as
// `go tool pprof` tells it.
func TestToolPprof(t *testing.T) {
	goCommand, err := exec.LookPath("go")
	if err != nil {
		t.Skip("SKIP: no go command here to run `go tool pprof` with")
	}
	_, p := build(t)
	path := write(t, p)
	for _, c := range []struct {
		args string
		want []string // in the output
	}{
		{"-top", []string{"Type: bytes", "720B total", "500B 69.44%", "cast apply vmq_swc_store:rpc_broadcast", "200B 27.78% 97.22%", "gen:do_call/4"}},
		{"-top -sample_index=bytes", []string{"Type: bytes", "720B total"}},
		{"-top -sample_index=messages", []string{"Type: messages", "13 total", "10 76.92%", "cast apply vmq_swc_store:rpc_broadcast", "2 15.38%"}},
		{"-top -sample_index=0", []string{"Type: messages", "13 total"}},
		{"-top -sample_index=messages -tagfocus=direction=sent", []string{"3, 23.08% of 13 total", "gen:do_call/4"}},
		{"-top -tagfocus=peer=b@host", []string{"720B, 100% of 720B total"}},
		{"-top -tagfocus=peer=c@host", []string{"0, 0% of 720B total"}},
		{"-top -cum -tagfocus=direction=received", []string{"500B, 69.44% of 720B total", "received from b@host", "vmq_swc_edist_meta1"}},
		{"-tags -sample_index=bytes", []string{"peer: Total", "b@host", "ae_exchange", "replication", "apply vmq_swc_store:rpc_node_clock"}},
	} {
		t.Run(c.args, func(t *testing.T) {
			command := exec.Command(goCommand, append(append([]string{"tool", "pprof", "-nodefraction=0"}, strings.Fields(c.args)...), path)...)
			command.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
			output, err := command.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, output)
			}
			for _, want := range c.want {
				if !strings.Contains(string(output), want) {
					t.Errorf("no %q in\n%s", want, output)
				}
			}
		})
	}
}

func write(t *testing.T, p *profile.Profile) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "distribution.pb.gz")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := p.Write(file); err != nil {
		t.Fatal(err)
	}
	return path
}
