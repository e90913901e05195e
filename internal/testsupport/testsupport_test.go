package testsupport

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const greeter = `
-module(greeter).
-export([hello/1]).
hello(Name) -> {hello, Name}.
`

func TestEval(t *testing.T) {
	vm := StartVM(t, Options{
		Flags:   []string{"+S", "2:1"},
		Modules: map[string]string{"greeter": greeter},
		Eval:    "register(sleeper, spawn(timer, sleep, [infinity]))",
	})
	for _, test := range []struct{ expression, want string }{
		{"erlang:system_info(schedulers)", "2"},
		{"erlang:system_info(schedulers_online)", "1"},
		{`os:getpid()`, fmt.Sprintf("%q", strconv.Itoa(vm.PID))},
		{"greeter:hello(world)", "{hello,world}"},
		{"is_pid(whereis(sleeper))", "true"},
		{"A = 1, B = 2, A + B", "3"},
		{"A + B", "3"}, // bindings are kept
		{`<<"grün"/utf8>>`, `<<"grün"/utf8>>`},
		{`io:format("noise~n")`, "ok"}, // output of the VM is no reply
		{"node()", "nonode@nohost"},
	} {
		if got := vm.Eval(t, test.expression); got != test.want {
			t.Errorf("%s = %s, want %s", test.expression, got, test.want)
		}
	}
	if got := vm.EvalInt(t, "1 bsl 40"); got != 1<<40 {
		t.Errorf("1 bsl 40 = %d", got)
	}
	if got := vm.EvalBytes(t, `[<<1, 2>>, [3], "x"]`); string(got) != "\x01\x02\x03x" {
		t.Errorf("iolist = %q", got)
	}
	large := vm.EvalBytes(t, "binary:copy(<<0>>, 3000000)")
	if len(large) != 3000000 {
		t.Errorf("large binary has %d bytes", len(large))
	}
	if !strings.Contains(vm.Output(), "noise") {
		t.Errorf("output is %q", vm.Output())
	}
}

func TestEvalErrors(t *testing.T) {
	vm := StartVM(t, Options{})
	for _, test := range []struct{ expression, want string }{
		{"error(broken)", "error: broken"},
		{"no_module:f()", "undef"},
		{"1 +", "badmatch"},
		{"exit(self(), kill)", "killed"},
		{"X", "unbound"},
	} {
		value, err := vm.TryEval(test.expression)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s = %s, %v; want an error with %q", test.expression, value, err, test.want)
		}
	}
	if got := vm.Eval(t, "alive"); got != "alive" {
		t.Errorf("after errors: %s", got)
	}
}

func TestLoadModule(t *testing.T) {
	vm := StartVM(t, Options{Modules: map[string]string{"greeter": greeter}})
	vm.Eval(t, "greeter:hello(a)")
	vm.LoadModule(t, "greeter", strings.Replace(greeter, "{hello, Name}", "{bye, Name}", 1))
	if got := vm.Eval(t, "greeter:hello(b)"); got != "{bye,b}" {
		t.Errorf("after reload: %s", got)
	}
	vm.LoadModule(t, "Elixir.Greeter", "-module('Elixir.Greeter').\n-export([hi/0]).\nhi() -> hi.\n")
	if got := vm.Eval(t, "'Elixir.Greeter':hi()"); got != "hi" {
		t.Errorf("Elixir module: %s", got)
	}
}

func TestCluster(t *testing.T) {
	cluster := NewCluster(t)
	one := StartVM(t, Options{Name: "support_one", Cluster: cluster})
	two := StartVM(t, Options{Name: "support_two", Cluster: cluster})
	if two.Node != "support_two@localhost" {
		t.Errorf("node is %s", two.Node)
	}
	if got := one.Eval(t, "net_adm:ping(support_two@localhost)"); got != "pong" {
		t.Errorf("ping: %s", got)
	}
	if got := two.Eval(t, "nodes()"); got != "[support_one@localhost]" {
		t.Errorf("nodes: %s", got)
	}
}

func TestNothingIsLeft(t *testing.T) {
	var vm *VM
	var started []int
	var port int
	t.Run("start", func(t *testing.T) {
		cluster := NewCluster(t)
		port = cluster.Port
		vm = StartVM(t, Options{
			Flags:   []string{"+JPperf", "true"},
			Name:    "support_left",
			Cluster: cluster,
			Eval:    `P = open_port({spawn, "sleep 1000"}, []), inet:gethostbyname("localhost")`,
		})
		var err error
		started, err = marked(vm.mark)
		if err != nil || len(started) < 3 { // the VM, erl_child_setup and sleep, at least
			t.Errorf("the VM and what it started: %v, %v", started, err)
		}
	})
	if left, err := marked(vm.mark); err != nil || len(left) > 0 {
		t.Errorf("of processes %v are left %v, %v", started, left, err)
	}
	leftovers, _ := filepath.Glob(fmt.Sprintf("/tmp/*-%d.*", vm.PID))
	if len(leftovers) > 0 {
		t.Errorf("files left: %v", leftovers)
	}
	if _, err := os.Stat(vm.Dir); err == nil {
		t.Errorf("%s is left", vm.Dir)
	}
	local, _ := os.ReadFile("/proc/net/tcp")
	if strings.Contains(string(local), fmt.Sprintf("0100007F:%04X 00000000:0000 0A", port)) {
		t.Errorf("epmd still listens on port %d", port)
	}
}

// A VM must not outlive a test binary that was killed: it halts by itself when
// its control pipes close.
func TestVMEndsWithItsTest(t *testing.T) {
	vm := StartVM(t, Options{Eval: "[spawn(fun F() -> F() end) || _ <- lists:seq(1, 8)]"})
	vm.control.Close()
	select {
	case <-vm.Exited():
	case <-time.After(startTimeout):
		t.Error("the VM goes on without its test")
	}
}

func TestNamespaces(t *testing.T) {
	RequireRoot(t)
	vm := StartVM(t, Options{SysProcAttr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}})
	if got := vm.Eval(t, "os:getpid()"); got != `"1"` {
		t.Errorf("pid inside the namespace: %s", got)
	}
	if vm.PID == 1 {
		t.Error("pid is the one of the namespace")
	}
}

func TestRequireBPF(t *testing.T) {
	RequireBPF(t)
	RequireCommand(t, "sh", "dash")
}
