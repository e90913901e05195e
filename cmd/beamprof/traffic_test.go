package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// talkingVM starts two nodes, and a process on the first that calls the second.
func talkingVM(t *testing.T) *testsupport.VM {
	t.Helper()
	testsupport.RequireBPF(t)
	cluster := testsupport.NewCluster(t)
	vm := testsupport.StartVM(t, testsupport.Options{Name: "bptraffic_a", Cluster: cluster})
	testsupport.StartVM(t, testsupport.Options{Name: "bptraffic_b", Cluster: cluster})
	vm.Eval(t, `register(talker, spawn(fun() -> (fun Loop() -> {ok, _} = rpc:call('bptraffic_b@localhost', file, get_cwd, []), timer:sleep(5), Loop() end)() end)), ok`)
	return vm
}

func TestLiveDistribution(t *testing.T) {
	vm := talkingVM(t)
	for _, mode := range []string{"full", "totals", "off"} {
		r := startRecord(t, vm, "--duration", "2s", "--distribution", mode)
		if err := r.Wait(); err != nil {
			t.Fatalf("%v: %s", err, &r.stderr)
		}
		recording, err := readRecording(r.dir)
		if err != nil {
			t.Fatal(err)
		}
		d := recording.summary.Distribution
		if mode == "off" {
			if d != nil {
				t.Errorf("%+v", d)
			}
			continue
		}
		if d == nil || d.Detail != mode || len(d.Peers) != 1 || d.Peers[0].Node != "bptraffic_b@localhost" || d.Peers[0].SentBytes == 0 || d.Peers[0].ReceivedBytes == 0 {
			t.Fatalf("%s: %+v", mode, d)
		}
		if !strings.Contains(r.stdout.String(), "bptraffic_b@localhost") {
			t.Errorf("the report does not name the node:\n%s", &r.stdout)
		}
		file, err := os.Open(filepath.Join(r.dir, distributionFile))
		if mode == "totals" {
			if err == nil {
				t.Error("a profile without messages")
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		p, err := profile.Parse(file)
		if err != nil {
			t.Fatal(err)
		}
		if d.Peers[0].SentMessages < 100 || !strings.Contains(p.String(), "apply file:get_cwd") {
			t.Errorf("%+v\n%s", d.Peers[0], p)
		}
	}
}

// Whatever ends beamprof, its probes are out of the VM's code.
func TestLiveProbesGoWhenKilled(t *testing.T) {
	vm := talkingVM(t)
	target, err := beam.Attach(vm.PID)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	at, ok := target.Symbol("erts_net_message")
	if !ok {
		t.Fatal("no function to be probed")
	}
	code := func() []byte {
		bytes := make([]byte, 4)
		if err := target.Memory.Read(bytes, at); err != nil {
			t.Fatal(err)
		}
		return bytes
	}
	before := code()
	r := startRecord(t, vm, "--duration", "10m", "--distribution", "full")
	until := func(what string, probed bool) {
		for deadline := time.Now().Add(30 * time.Second); bytes.Equal(before, code()) == probed; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	until("no probe came", true)
	if err := r.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.Wait()
	until("the probe stays", false)
}
