package jit_test

import (
	"strings"
	"testing"

	"github.com/beamprof/beamprof/collector/beam/jit"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// Every name is the one that the VM writes to its own map for perf: at the
// first, a middle and the last address of all code.
func TestNamesAreTheVMs(t *testing.T) {
	for _, perf := range []string{"map", "true"} {
		t.Run("+JPperf "+perf, func(t *testing.T) {
			vm := testsupport.StartVM(t, testsupport.Options{Flags: []string{"+JPperf", perf}, Eval: loadMany + oddModule})
			table := openVM(t, vm)
			checked := 0
			for _, m := range perfMap(t, vm) {
				if m.size == 0 {
					continue
				}
				for _, pc := range []uint64{m.start, m.start + m.size/2, m.start + m.size - 1} {
					f, ok := table.Lookup(pc, 0)
					if !ok || f.Raw != m.name || f.Start != m.start || f.End != m.start+m.size || !table.Contains(pc) {
						t.Errorf("%#x is %q (%#x to %#x), the VM says %q from %#x on for %#x bytes", pc, f.Raw, f.Start, f.End, m.name, m.start, m.size)
					}
					if name := printable(strings.TrimSuffix(m.name, "-CodeInfoPrologue")); f.Name != name && !strings.Contains(name, "Elixir") {
						t.Errorf("%q is shown as %q", m.name, f.Name)
					}
					checked++
				}
				if t.Failed() {
					t.FailNow()
				}
			}
			_, ranges, _ := table.Stats()
			if checked < 45000 || checked > 3*ranges {
				t.Errorf("%d addresses checked, the table has %d ranges", checked, ranges)
			}
			if perf == "true" && table.FrameLayout() != 1 {
				t.Errorf("frame layout %d", table.FrameLayout())
			}
			f, ok := table.Lookup(table.NormalExit(), 0)
			if !ok || f.Raw != "erts_beamasm:normal_exit/0" {
				t.Errorf("the bottom of the stacks is %q", f.Raw)
			}
			t.Logf("%d addresses of %d ranges", checked, ranges)
		})
	}
}

// loadMany loads modules of some more applications.
const loadMany = `
[code:ensure_loaded(list_to_atom(filename:basename(F, ".beam"))) ||
	App <- [stdlib, kernel], F <- filelib:wildcard(filename:join(code:lib_dir(App), "ebin/*.beam"))],
`

// oddModule loads modules whose names, and whose functions' names, need care.
const oddModule = `
lists:foreach(fun(M) ->
	Names = [a, 'A', 'a b', 'it\'s', 'back\\slash', 'quote"', 'new\nline', 'tab\t', 'ctrl\x01', 'del\x7f', 'c1\x{85}', 'a:b/1', 'a/b', '', '-', '-f/1-fun-0-', '-f/1-lc$^0/1-0-',
		'-a/b/1-fun-0-', '-+/2-fun-3-', '-f-', '-/-fun-0-', '-f/1-2-fun-0-', '-1-fun-0-', '-fun.f/1-', '+', '++', '..', '...', '{}', '%{}', '::', '->', '//', '\\\\', '@', '.', '..//', a@b, '@b',
		'ok?', 'ok!', 'ok?!', 'a?b', '?', '!', 'Foo', 'Elixir.Foo', nil, 'end', 'do', 'MACRO-m', '__struct__', '_', 'größe', 'Größe', '日本', 'a日', 'é́', '1a', '#{x}', '#', '\e[2J', ' '],
	Functions = [{function, 1, N, 0, [{clause, 1, [], [], [{atom, 1, ok}]}]} || N <- Names],
	{ok, M, Binary} = compile:forms([{attribute, 1, module, M}, {attribute, 1, compile, export_all} | Functions], []),
	{module, M} = code:load_binary(M, "nowhere", Binary)
end, [odd, 'a:b/c\'d', 'Odd Module', 'global::x', 'Elixir', 'Elixir.Odd', 'Elixir.Odd.Sub_1', 'Elixir.odd', 'Elixir.Odd.', 'Elixir.Odd-1', 'Elixir.Elixir', 'Elixir.Elixir.Odd', 'ElixirOdd', 'Elixir.Größe', 'Elixir.a"b'])
`

// Elixir's functions have the names that Elixir itself writes in stack traces.
func TestElixirNames(t *testing.T) {
	elixir := testsupport.RequireCommand(t, "elixir", "elixir")
	vm := testsupport.StartVM(t, testsupport.Options{Eval: oddModule})
	vm.Eval(t, `true = code:add_patha(string:trim(os:cmd("'`+elixir+`' -e 'IO.puts(:code.lib_dir(:elixir, :ebin))'")))`)
	text := vm.EvalBytes(t, `
		{ok, _} = application:ensure_all_started(elixir),
		Modules = lists:usort([list_to_atom(filename:basename(F, ".beam")) ||
			F <- filelib:wildcard(filename:join(code:lib_dir(elixir, ebin), "Elixir.*.beam"))] ++
			[M || {M, "nowhere"} <- code:all_loaded(), lists:prefix("Elixir", atom_to_list(M)), M =/= 'ElixirOdd']),
		[code:ensure_loaded(M) || M <- Modules],
		[[atom_to_binary(M), 0, 'Elixir.Exception':format_mfa(M, F, A), 0] || M <- Modules, {F, A} <- M:module_info(functions)]`)
	table := openVM(t, vm)
	want := map[string]map[string]int{} // by module and name
	fields := strings.Split(string(text), "\x00")
	total := 0
	for i := 0; i+1 < len(fields); i += 2 {
		module, name := printable(fields[i]), printable(fields[i+1])
		if want[module] == nil {
			want[module] = map[string]int{}
		}
		want[module][name]++
		total++
	}
	for f := range jit.Functions(table) {
		if f.Kind != jit.KindFunction || want[f.Module] == nil {
			continue
		}
		if want[f.Module][f.Name] == 0 {
			t.Errorf("%s is shown as %q, which is not Elixir's", f.Raw, f.Name)
			continue
		}
		want[f.Module][f.Name]--
		total--
	}
	for module, names := range want {
		for name, n := range names {
			if n > 0 {
				t.Errorf("Elixir's %q in %s is shown otherwise", name, module)
			}
		}
	}
	t.Logf("%d names compared", len(fields)/2)
}

// printable is what becomes of a text that a terminal must not get.
func printable(s string) string { return jit.Clean(s) }
