package beam

import (
	"fmt"
	"testing"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// BenchmarkAttach measures everything from the pid to a checked target, with a
// bare VM's code and with about the 40 000 functions of a large application.
func BenchmarkAttach(b *testing.B) {
	for _, modules := range []int{0, 500} {
		b.Run(fmt.Sprintf("modules=%d", modules), func(b *testing.B) {
			vm := testsupport.StartVM(b, testsupport.Options{Modules: map[string]string{"zoo": zooSource}})
			vm.Eval(b, "zoo:start(1000)")
			loadModules(b, vm, modules, 50)
			b.ReportAllocs()
			for b.Loop() {
				target, err := Attach(vm.PID)
				if err != nil {
					b.Fatal(err)
				}
				_, functions, _ := target.Code.Stats()
				b.ReportMetric(float64(functions), "functions")
				target.Close()
			}
		})
	}
}

// loadModules gives a VM modules of so many functions.
func loadModules(b *testing.B, vm *testsupport.VM, modules, functions int) {
	b.Helper()
	if modules == 0 {
		return
	}
	vm.Eval(b, fmt.Sprintf(`lists:foreach(fun(M) ->
		Name = list_to_atom("generated_" ++ integer_to_list(M)),
		F = fun(I) -> list_to_atom("function_" ++ integer_to_list(I)) end,
		{ok, Name, Code} = compile:forms([{attribute, 1, module, Name}, {attribute, 2, compile, export_all} |
			[{function, 2 + I, F(I), 1, [{clause, 2 + I, [{var, 2 + I, 'X'}], [], [{call, 2 + I, {remote, 2 + I, {atom, 2 + I, lists}, {atom, 2 + I, reverse}}, [{var, 2 + I, 'X'}]}]}]} || I <- lists:seq(1, %d)]], []),
		{module, Name} = code:load_binary(Name, "generated", Code)
	end, lists:seq(1, %d))`, functions, modules))
}

func BenchmarkIdentify(b *testing.B) {
	vm := testsupport.StartVM(b, testsupport.Options{Modules: map[string]string{"zoo": zooSource}})
	vm.Eval(b, "zoo:start(1000)")
	target := attachTo(b, vm)
	processes := allProcesses(b, target)
	heads := make([][]byte, len(processes))
	for i, p := range processes {
		head, err := target.readHead(p.addr)
		if err != nil {
			b.Fatal(err)
		}
		heads[i] = head
	}
	for _, known := range []bool{true, false} {
		b.Run(fmt.Sprintf("known=%v", known), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if !known && i%len(processes) == 0 {
					target.identities.Purge()
				}
				k := i % len(processes)
				if _, err := target.Identify(processes[k].addr, heads[k], "", Copied{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkList(b *testing.B) {
	vm := testsupport.StartVM(b, testsupport.Options{})
	for b.Loop() {
		if _, err := List(); err != nil {
			b.Fatal(err)
		}
	}
	_ = vm
}
