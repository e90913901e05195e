package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// listeningVM starts a VM that accepts connections and returns where.
func listeningVM(t *testing.T) (*testsupport.VM, string) {
	t.Helper()
	testsupport.RequireBPF(t)
	vm := testsupport.StartVM(t, testsupport.Options{})
	vm.Eval(t, `{ok, L} = gen_tcp:listen(0, [{ip, {127,0,0,1}}, binary, {active, false}, {backlog, 1000}]),
		{ok, Port} = inet:port(L),
		Acceptor = spawn(fun() -> (fun Loop() ->
			{ok, S} = gen_tcp:accept(L),
			Pid = spawn(fun() -> receive go -> gen_tcp:recv(S, 0) end end),
			ok = gen_tcp:controlling_process(S, Pid), Pid ! go, Loop() end)() end),
		ok = gen_tcp:controlling_process(L, Acceptor)`)
	return vm, fmt.Sprintf("127.0.0.1:%d", vm.EvalInt(t, "Port"))
}

func TestLiveConnections(t *testing.T) {
	vm, at := listeningVM(t)
	for _, mode := range []string{"totals", "off"} {
		r := startRecord(t, vm, "--duration", "10m", "--connections", mode)
		time.Sleep(200 * time.Millisecond) // until it counts
		const connects = 50
		for range connects {
			c, err := net.Dial("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
		time.Sleep(200 * time.Millisecond) // until they are gone
		if err := r.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := r.Wait(); err != nil {
			t.Fatalf("%v: %s", err, &r.stderr)
		}
		recording, err := readRecording(r.dir)
		if err != nil {
			t.Fatal(err)
		}
		c := recording.summary.Connections
		file, err := os.Open(filepath.Join(r.dir, connectionsFile))
		if mode == connectionsOff {
			if c != nil || err == nil {
				t.Errorf("%+v, %v", c, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if c == nil || len(c.Listeners) != 1 || c.Listeners[0].Address != at || c.Listeners[0].Opened != connects || c.Listeners[0].ClosedByPeer != connects || c.Lost > 0 {
			t.Errorf("%+v", c)
		}
		p, err := profile.Parse(file)
		if err != nil {
			t.Fatal(err)
		}
		var opened int64
		for _, s := range p.Sample {
			opened += s.Value[0]
		}
		if opened != connects {
			t.Errorf("%d connections in the profile, want %d", opened, connects)
		}
	}
}
