package pprof

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/profiles/sampletest"
)

// TestToolPprof: everything a user of `go tool pprof` does works on a profile,
// and none of it complains.
func TestToolPprof(t *testing.T) {
	goCommand, err := exec.LookPath("go")
	if err != nil {
		t.Skip("SKIP: no go command here to run `go tool pprof` with")
	}
	dir := t.TempDir()
	all, later := filepath.Join(dir, "cpu.pb.gz"), filepath.Join(dir, "later.pb.gz")
	writeProfile(t, all, sampletest.Broker())
	writeProfile(t, later, append(sampletest.Broker(), sampletest.Broker()[:270]...))

	for _, c := range []struct {
		name   string
		args   []string
		want   []string // in this order
		not    string
		notice string // what pprof says on stderr of any profile
	}{
		{"top", []string{"-top", all}, []string{"File: beam.smp", "Build ID: 8f1c25c9d0b1e3a7", "frequency: 99 Hz", "Type: cpu", "Duration: 30s, Total samples = 10101.01ms", "beam.smp+0x1234"}, "", ""},
		{"cumulative", []string{"-top", "-cum", all}, []string{"proc_lib:init_p_do_apply/3", "broker_db:handle_call/3", "eleveldb:get/3"}, "", ""},
		{"count", []string{"-top", "-sample_index=samples", all}, []string{"Type: samples", "270"}, "", ""},
		{"lines", []string{"-top", "-lines", all}, []string{"lists:foldl/3 lists.erl:1355"}, "", ""},
		{"peek", []string{"-peek=^broker_db:handle_call/3$", all}, []string{"gen_server:try_handle_call/4", "broker_db:handle_call/3", "eleveldb:get/3"}, "", ""},
		{"traces", []string{"-traces", all}, []string{"request:  read", "scheduler:  1", "beam.smp+0x1234", "eleveldb::async_get", "eleveldb:get/3", "proc_lib:init_p_do_apply/3"}, "", ""},
		{"tags", []string{"-tags", all}, []string{"process_kind:", "broker_db_metaN", "request:", "scheduler:", "state:", "thread:", "Eleveldb"}, "", ""},
		{"tagfocus", []string{"-top", "-tagfocus=process_kind=broker_db_metaN", all}, []string{"eleveldb:get/3"}, "lists:foldl/3", ""},
		{"tagfocus number", []string{"-traces", "-tagfocus=scheduler=2", all}, []string{"broker_db_meta2"}, "broker_db_meta1", "tagfocus:Interpreted '2' as range, not regexp\n"},
		{"tagignore", []string{"-top", "-tagignore=state=nif", all}, []string{"lists:foldl/3"}, "async_get", ""},
		{"tagroot", []string{"-top", "-cum", "-tagroot=process_kind,request", all}, []string{"broker_db_metaN", "read"}, "", ""},
		{"tagleaf", []string{"-top", "-tagleaf=state", all}, []string{"nif"}, "", ""},
		{"diff_base", []string{"-top", "-diff_base=" + all, later}, []string{"2.73s", "beam.smp+0x1234"}, "lists:foldl/3", ""},
		{"comments", []string{"-comments", all}, []string{"node: broker@10.0.0.1 (pid 4711)", "versions: OTP 25, erts 13.1.5 (jit)", "frequency: 99 Hz", "lost: 3"}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			command := exec.Command(goCommand, append([]string{"tool", "pprof"}, c.args...)...)
			var stdout, stderr bytes.Buffer
			command.Stdout, command.Stderr = &stdout, &stderr
			if err := command.Run(); err != nil {
				t.Fatalf("%v\n%s", err, &stderr)
			}
			if complaint := strings.ReplaceAll(stderr.String(), c.notice, ""); complaint != "" {
				t.Errorf("pprof complains: %s", complaint)
			}
			rest := stdout.String()
			for _, want := range c.want {
				_, after, found := strings.Cut(rest, want)
				if !found {
					t.Fatalf("%q is missing, or not in order, in:\n%s", want, &stdout)
				}
				rest = after
			}
			if c.not != "" && strings.Contains(stdout.String(), c.not) {
				t.Errorf("%q is in:\n%s", c.not, &stdout)
			}
		})
	}
}

// TestToolPprofKeepsErlangNames: pprof's rules for C++ names leave ours alone.
func TestToolPprofKeepsErlangNames(t *testing.T) {
	goCommand, err := exec.LookPath("go")
	if err != nil {
		t.Skip("SKIP: no go command here to run `go tool pprof` with")
	}
	names := []string{
		"lists:'-filter/2-lc$^0/1-0-'/1", "erlang:<</2", "Kernel.<>/2", "m:'<a>::(b)'/0", "global::garbage_collect",
		"Enum.\"-map/2-lists^map/1-0-\"/2", "a:'[x](y)'/3",
	}
	var samples []*collector.Sample
	for i, name := range names {
		samples = append(samples, &collector.Sample{Stack: []*collector.Frame{{Kind: collector.FrameErlang, Address: uint64(i + 1), Function: name, Resolved: true}}})
	}
	native := &collector.Frame{Kind: collector.FrameNative, Address: 100, Function: "_ZN7leveldb5TableC2Ev", Resolved: true}
	samples = append(samples, &collector.Sample{Stack: []*collector.Frame{native}})
	file := filepath.Join(t.TempDir(), "cpu.pb.gz")
	writeProfile(t, file, samples)
	output, err := exec.Command(goCommand, "tool", "pprof", "-top", "-nodefraction=0", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, name := range append(names, "leveldb::Table::Table") {
		if !strings.Contains(string(output), "  "+name+"\n") {
			t.Errorf("%s is not in:\n%s", name, output)
		}
	}
}

func writeProfile(t *testing.T, file string, samples []*collector.Sample) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := build(t, Options{Frequency: 99}, samples).Write(f); err != nil {
		t.Fatal(err)
	}
}
