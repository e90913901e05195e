package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// listeningVM starts a VM that accepts connections and returns where.
func listeningVM(t *testing.T) (*testsupport.VM, string) {
	t.Helper()
	testsupport.RequireBPF(t)
	vm := testsupport.StartVM(t, testsupport.Options{})
	vm.Eval(t, testsupport.Accepting)
	return vm, fmt.Sprintf("127.0.0.1:%d", vm.EvalInt(t, "Port"))
}

// clientID of the connections in TestLiveConnections, and its CONNECT.
const clientID = "device-7"

var connectPacket = []byte("\x10\x14\x00\x04MQTT\x04\x02\x00\x3c\x00\x08" + clientID)

func TestLiveConnections(t *testing.T) {
	vm, at := listeningVM(t)
	for _, args := range [][]string{{"full"}, {"full", "--client-ids"}, {"totals"}, {"off"}} {
		mode := args[0]
		r := startRecord(t, vm, append([]string{"--duration", "10m", "--connections"}, args...)...)
		time.Sleep(200 * time.Millisecond) // until it counts
		const connects = 50
		for range connects {
			c, err := net.Dial("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(connectPacket); err != nil {
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
		if c == nil || len(c.Listeners) != 1 || c.Listeners[0].Address != at || c.Listeners[0].Opened != connects || c.Listeners[0].Closed != connects || c.Lost > 0 || c.Detail != mode {
			t.Fatalf("%v: %+v", args, c)
		}
		if mode == "full" && (c.MQTT == nil || c.MQTT.Connects != connects || c.MQTT.WithoutConnack != connects || len(c.Clients) != 1 || c.Clients[0].ID != clientID) {
			t.Errorf("%v: %+v, clients %+v", args, c.MQTT, c.Clients)
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
			t.Errorf("%v: %d connections in the profile, want %d", args, opened, connects)
		}
		if strings.Contains(p.String(), clientID) != (len(args) == 2) {
			t.Errorf("%v: the client id: %s", args, p)
		}
	}
}

// Whatever ends beamprof, none of its programs stays in the kernel.
func TestLiveProgramsGoWhenKilled(t *testing.T) {
	vm, _ := listeningVM(t)
	r := startRecord(t, vm, "--duration", "10m")
	descriptors, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", r.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	ids := map[ebpf.ProgramID]bool{}
	for _, path := range descriptors {
		content, _ := os.ReadFile(path) // it may be closed by now
		if _, after, ok := strings.Cut(string(content), "prog_id:"); ok {
			var id ebpf.ProgramID
			if _, err := fmt.Sscan(after, &id); err != nil {
				t.Fatalf("%s: %q", path, content)
			}
			ids[id] = true
		}
	}
	if len(ids) < 5 {
		t.Fatalf("%d programs", len(ids))
	}
	if err := r.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	r.Wait()
	deadline := time.Now().Add(30 * time.Second)
	for id := range ids {
		for {
			program, err := ebpf.NewProgramFromID(id)
			if errors.Is(err, os.ErrNotExist) {
				break
			}
			if err == nil {
				program.Close()
			}
			if time.Now().After(deadline) {
				t.Fatalf("program %d stays: %v", id, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}
