package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/host"
)

func TestDoctor(t *testing.T) {
	good := host.Check{Name: "kernel", Detail: "Linux 5.4.0-216-generic"}
	note := host.Check{Name: "BTF", Status: host.Note, Detail: "absent, not needed"}
	failed := host.Check{Name: "lockdown", Status: host.Failed, Detail: "confidentiality", Remedy: "boot otherwise"}
	denied := host.Check{Name: "capabilities", Status: host.Denied, Detail: "CAP_BPF missing", Remedy: "run as root (sudo)"}
	second := beam.Candidate{Info: beam.Info{PID: 20, Node: "other@host", Release: "25", ERTS: "13.1.5", Flavor: "jit"}}
	for _, c := range []struct {
		name   string
		host   []host.Check
		change func(*invented)
		args   string
		code   int
	}{
		{"good", []host.Check{good, note}, nil, "", 0},
		{"good-two", []host.Check{good}, func(i *invented) { i.vms = append(i.vms, second) }, "", 0},
		{"one-of-two", []host.Check{good}, func(i *invented) { i.vms = append(i.vms, second) }, "--pid 20", 0},
		{"failed", []host.Check{good, note, failed}, nil, "", 1},
		{"denied", []host.Check{good, denied, failed}, func(i *invented) { i.attachErr = fmt.Errorf("attach: %w", beam.ErrPermission) }, "", 4},
		{"unsupported", []host.Check{good}, func(i *invented) { i.attachErr = fmt.Errorf("attach: %w: OTP 19", beam.ErrUnsupported) }, "", 3},
		{"starting", []host.Check{good}, func(i *invented) { i.attachErr = fmt.Errorf("attach: %w", beam.ErrStarting) }, "", 3},
		{"no-vm", []host.Check{good}, func(i *invented) { i.vms = nil }, "", 3},
		{"no-such-vm", []host.Check{good}, nil, "--pid 5", 3},
		{"messages", []host.Check{good}, func(i *invented) { i.messages = fmt.Errorf("%w: erts 13.2", beam.ErrUnsupported) }, "", 0},
		{"layout", []host.Check{good}, func(i *invented) {
			i.layout = append(i.layout, beam.Check{Name: "stacks", Detail: "3 of 51", Remedy: "report it"})
		}, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := broker()
			i.hostCheck = c.host
			if c.change != nil {
				c.change(i)
			}
			stdout, stderr, code := runIn(t, i, append([]string{"doctor"}, strings.Fields(c.args)...)...)
			if code != c.code || (code == 0) != (stderr == "") || (code == 0) != strings.Contains(stdout, "All is well") {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}
			golden(t, "doctor-"+c.name+".txt", stdout)
		})
	}
}

func TestPS(t *testing.T) {
	i := broker()
	i.vms = append(i.vms,
		beam.Candidate{Info: beam.Info{PID: 99, Node: "x\x1b[2J@y", Release: "19", ERTS: "8.3", Flavor: "emu", NormalSchedulers: 16}, Err: fmt.Errorf("%w: OTP 19", beam.ErrUnsupported)},
		beam.Candidate{Info: beam.Info{PID: 100}, Err: beam.ErrPermission})
	stdout, _, code := runIn(t, i, "ps")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	golden(t, "ps.txt", stdout)

	i.vms = nil
	if stdout, stderr, code := runIn(t, i, "ps"); code != 0 || stdout != "" || !strings.Contains(stderr, "no beam.smp") {
		t.Errorf("exit code %d: %q %q", code, stdout, stderr)
	}
}
