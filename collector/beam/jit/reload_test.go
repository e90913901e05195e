package jit_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/beamprof/beamprof/collector/beam/jit"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// reloaded is a version of a module: f/0 of version n is at line 2 + n, and
// all versions take the same space.
func reloaded(version int) string {
	source := "-module(reloaded).\n-export([f/0]).\n"
	for range version {
		source += "\n"
	}
	return source + fmt.Sprintf("f() -> {error(%d)}.\n", version)
}

func mustFind(t testing.TB, table *jit.Table, raw string) jit.Function {
	t.Helper()
	for f := range jit.Functions(table) {
		if f.Raw == raw {
			return f
		}
	}
	t.Fatalf("there is no %s", raw)
	return jit.Function{}
}

func refreshed(t testing.TB, table *jit.Table, at uint64, want bool) {
	t.Helper()
	if changed, err := table.Refresh(at); err != nil || changed != want {
		t.Fatalf("refresh at %d: %t, %v", at, changed, err)
	}
}

// A module that is loaded over and over is known in every version, each at its
// time, also where the VM put a new version at the place of an old one.
func TestReloads(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{Flags: []string{"+JPperf", "map"}})
	table := openVM(t, vm)
	const versions = 12
	places := map[uint64][]int{} // versions by address
	var starts [versions]uint64
	for i := range versions {
		at := uint64(i+1) * 100
		vm.LoadModule(t, "reloaded", reloaded(i))
		refreshed(t, table, at, true)
		refreshed(t, table, at+50, false)
		starts[i] = mappedFunction(t, vm, "reloaded:f/0").start
		places[starts[i]] = append(places[starts[i]], i)
	}
	for i, start := range starts {
		at := uint64(i+1)*100 + 20
		f, ok := table.Lookup(start, at)
		_, line := f.Line(f.End - 1)
		if !ok || f.Raw != "reloaded:f/0" || line != 3+i {
			t.Errorf("version %d at %#x is %q, line %d", i, start, f.Raw, line)
		}
		// Before it came there was another version at its place, or nothing.
		// Before the first Refresh nothing is known about what was there.
		if i == 0 {
			continue
		}
		var before int
		for _, version := range places[start] {
			if version < i {
				before = 3 + version
			}
		}
		f, ok = table.Lookup(start, at-100)
		if _, line := f.Line(f.End - 1); line != before && !(vm.Release >= "27" && !ok) {
			t.Errorf("before version %d there was line %d at %#x, want %d", i, line, start, before)
		}
		if !table.Contains(start) {
			t.Errorf("version %d is forgotten", i)
		}
	}
	if len(places) == versions {
		t.Error("the VM has used no place again: this test shows nothing")
	}
	t.Logf("%d versions at %d places", versions, len(places))
}

// A module that is purged is found until then. VMs before OTP 27 keep it.
func TestPurge(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{})
	vm.LoadModule(t, "reloaded", reloaded(0))
	table := openVM(t, vm)
	entries, _, _ := table.Stats()
	f := mustFind(t, table, "reloaded:f/0")
	vm.Eval(t, "code:delete(reloaded), code:purge(reloaded)")
	const second = 1_000_000_000
	if _, err := table.Refresh(10 * second); err != nil {
		t.Fatal(err)
	}
	if _, err := table.Refresh(20 * second); err != nil {
		t.Fatal(err)
	}
	if _, ok := table.Lookup(f.Start, second); !ok {
		t.Error("the module is not found before it was purged")
	}
	release, err := strconv.Atoi(vm.Release)
	if err != nil {
		t.Fatal(err)
	}
	after, _, _ := table.Stats()
	if _, ok := table.Lookup(f.Start, 20*second); ok != (release < 27) || (after == entries) != (release < 27) {
		t.Errorf("OTP %d, after the purge: found %t, %d entries of %d", release, ok, after, entries)
	}
	// What stayed is still found, and so is what comes now.
	mustFind(t, table, "lists:map/2")
	vm.LoadModule(t, "reloaded", reloaded(5))
	refreshed(t, table, 30*second, true)
	f = mustFind(t, table, "reloaded:f/0")
	if _, line := f.Line(f.End - 1); line != 8 {
		t.Errorf("the new version is at line %d", line)
	}
}

// The table follows a VM that loads and purges all the time.
func TestBusyLoading(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{Flags: []string{"+JPperf", "map"}})
	vm.LoadModule(t, "reloaded", reloaded(0))
	vm.Eval(t, `
		{_, Binary, _} = code:get_object_code(reloaded),
		Churn = fun Churn(0) -> done; Churn(N) ->
			{module, _} = code:load_binary(reloaded, "", Binary), code:purge(reloaded), Churn(N - 1) end,
		Evaluator = self(), spawn(fun() -> Evaluator ! {churned, Churn(1000)} end), ok`)
	table := openVM(t, vm)
	stays := mustFind(t, table, "lists:map/2")
	for at := uint64(1); at < 400; at++ {
		if _, err := table.Refresh(at); err != nil {
			t.Fatal(err)
		}
		if f, ok := table.Lookup(table.NormalExit(), at); !ok || f.Raw != "erts_beamasm:normal_exit/0" {
			t.Fatalf("the bottom of the stacks is %q", f.Raw)
		}
		if f, ok := table.Lookup(stays.Start, at); !ok || f.Raw != "lists:map/2" {
			t.Fatalf("lists:map/2 has become %q", f.Raw)
		}
	}
	vm.Eval(t, "receive {churned, done} -> ok end")
	if _, err := table.Refresh(1000); err != nil {
		t.Fatal(err)
	}
	newest := mappedFunction(t, vm, "reloaded:f/0").start
	if f, ok := table.Lookup(newest, 1000); !ok || f.Raw != "reloaded:f/0" {
		t.Errorf("the newest version is %q", f.Raw)
	}
	entries, ranges, lines := table.Stats()
	t.Logf("%d entries, %d ranges, %d lines", entries, ranges, lines)
}
