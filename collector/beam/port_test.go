package beam

import (
	"strings"
	"testing"

	"github.com/beamprof/beamprof/internal/testsupport"
)

func TestPorts(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{})
	vm.Eval(t, `{ok, L} = gen_tcp:listen(0, [{ip, {127,0,0,1}}]), P = open_port({spawn, "cat -u /dev/null -"}, [])`)
	target := attachTo(t, vm)
	ports := allPorts(t, target)
	for _, variable := range []string{"L", "P"} {
		want := vm.Eval(t, variable)
		port, ok := ports[want]
		if !ok {
			t.Errorf("port %s not found among %v", want, ports)
			continue
		}
		if name := vm.Eval(t, "element(2, erlang:port_info("+variable+", name))"); name != `"`+port.Name+`"` {
			t.Errorf("%s is called %q, the VM says %s", want, port.Name, name)
		}
		owner, _ := target.FormatPID(port.Connected)
		if pid := vm.Eval(t, "element(2, erlang:port_info("+variable+", connected))"); pid != owner {
			t.Errorf("%s belongs to %s, the VM says %s", want, owner, pid)
		}
		driver := map[string]string{"L": "tcp_inet", "P": "spawn"}[variable]
		if port.Driver != driver && port.Driver != "forker_driver" && port.Driver != "spawn" {
			t.Errorf("%s has driver %s", want, port.Driver)
		}
	}
	for _, addr := range []uint64{0, 1, target.Schedulers[0].Data, ^uint64(0)} {
		if port, err := target.Port(addr); err == nil {
			t.Errorf("%#x is port %+v", addr, port)
		}
	}
}

// allPorts reads erts_port, a table like that of processes.
func allPorts(t *testing.T, target *Target) map[string]Port {
	t.Helper()
	at, ok := target.Symbol("erts_port")
	if !ok {
		t.Fatal("no erts_port")
	}
	l := &target.Layout.Table
	slots, err := target.Memory.Uint64(at + uint64(l.Slots))
	if err != nil {
		t.Fatal(err)
	}
	count, err := target.Memory.Uint32(at + uint64(l.Max))
	if err != nil {
		t.Fatal(err)
	}
	words := make([]uint64, count)
	if err := target.Memory.Words(words, slots); err != nil {
		t.Fatal(err)
	}
	found := map[string]Port{}
	for _, addr := range words {
		if addr == 0 {
			continue
		}
		if port, err := target.Port(addr); err == nil {
			found[port.ID] = port
		}
	}
	return found
}

func TestBIFs(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{})
	target := attachTo(t, vm)
	for function, want := range map[string]string{
		"ets_lookup_2":                 "ets:lookup/2",
		"erts_internal_port_command_3": "erts_internal:port_command/3",
		"binary_to_list_1":             "erlang:binary_to_list/1",
		"term_to_binary_1":             "erlang:term_to_binary/1",
		"re_run_3":                     "re:run/3",
		"abs_1":                        "erlang:abs/1",
	} {
		at, ok := target.Symbol(function)
		if !ok {
			t.Errorf("no C function %s", function)
			continue
		}
		if got, ok := target.BIF(at); !ok || got != want {
			t.Errorf("%s is %s, %v, not %s", function, got, ok, want)
		}
	}
	if name, ok := target.BIF(target.NormalExit); ok {
		t.Errorf("the stack's root is %s", name)
	}
	// All that the VM lists are there, except where one C function serves
	// several. Only Erlang quotes its reserved words, the VM does not.
	known := map[string]bool{}
	for _, name := range target.bifs {
		known[strings.ReplaceAll(name, "'", "")] = true
	}
	listed := strings.Fields(string(vm.EvalBytes(t, `[io_lib:format("~w:~w/~b ", [M, F, A]) || {M, F, A} <- erlang:system_info(snifs)]`)))
	missing := 0
	for _, name := range listed {
		if !known[strings.ReplaceAll(name, "'", "")] {
			missing++
			t.Logf("not there: %s", name)
		}
	}
	if len(listed) < 100 || missing > 0 {
		t.Errorf("%d of %d missing", missing, len(listed))
	}
}

func TestMFA(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{Modules: map[string]string{"zoo": zooSource}})
	vm.Eval(t, "P = spawn(zoo, plain, [x])")
	target := attachTo(t, vm)
	at := processOf(t, vm, target, "P") + uint64(target.Layout.Process.Initial)
	if name, ok := target.MFA(at); !ok || name != "zoo:plain/1" {
		t.Errorf("initial call %q, %v", name, ok)
	}
	for _, addr := range []uint64{0, 1, target.Schedulers[0].Data} {
		if name, ok := target.MFA(addr); ok {
			t.Errorf("%#x is function %s", addr, name)
		}
	}
}
