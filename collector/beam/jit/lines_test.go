package jit_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// deep calls through functions of several shapes; what is noted after a % is
// the frame that waits at that line.
const deepSource = `-module(deep).
-export([start/0, a/1]).

start() ->
    register(deep, spawn(fun() ->
                             {ok, a(1)} % deep:'-start/0-fun-0-'/0
                         end)).

a(N) ->
    X = b(N), % deep:a/1
    {X, N},
    ok.

b(N) when N > 0 ->
    [c(E) || % deep:'-b/1-lc$^0/1-0-'/1

        E <- [N]].

c(N) ->
    try
        {d(N,
           N + 1), N} % deep:c/1
    catch
        error:_ -> error
    end.

d(N, _) ->
    case N of
        0 -> lists:reverse([]);
        _ ->
            F = fun(M) ->
                    {e(M), N} % deep:'-d/2-fun-0-'/2
                end,
            lists:map(F, [N]) ++ [N] % deep:d/2
    end.

-file("other.hrl", 100).
e(_) -> % line 101
    receive
        stop -> ok
    end.
`

var backtraceLine = regexp.MustCompile(`(?:Return addr|Program counter:) (0x[0-9a-f]+) \((.*) \+ \d+\)`)

// The line of a return address less one is the line of the call, for code
// whose lines are known from its source and for OTP's as the VM says itself.
func TestLinesOfCalls(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{Modules: map[string]string{"deep": deepSource}})
	vm.Eval(t, `deep:start(), Wait = fun Wait() -> case process_info(whereis(deep), current_function) of {_, {deep, e, 1}} -> ok; _ -> Wait() end end, Wait()`)
	table := openVM(t, vm)

	want := map[string]int{}
	for i, line := range strings.Split(deepSource, "\n") {
		if _, name, ok := strings.Cut(line, "% deep:"); ok {
			want["deep:"+name] = i + 1
		}
	}
	want["deep:c/1"]-- // its call begins a line before
	backtrace := string(vm.EvalBytes(t, `{_, Text} = process_info(whereis(deep), backtrace), Text`))
	stack := strings.Split(string(vm.EvalBytes(t, `{_, Trace} = process_info(whereis(deep), current_stacktrace),
		lists:join($\n, [io_lib:format("~ts ~p", [proplists:get_value(file, L, ""), proplists:get_value(line, L, 0)]) || {_, _, _, L} <- Trace])`)), "\n")
	frames := backtraceLine.FindAllStringSubmatch(backtrace, -1)
	if len(frames) < len(stack) || len(stack) < 8 {
		t.Fatalf("%s\n%s", backtrace, stack)
	}
	for i, frame := range frames[:len(stack)] {
		pc, err := strconv.ParseUint(frame[1], 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			pc--
		}
		f, ok := table.Lookup(pc, 0)
		file, line := f.Line(pc)
		if !ok || f.Name != frame[2] {
			t.Errorf("frame %d is %q, the VM says %s", i, f.Name, frame[2])
		}
		if i == 0 && (file != "other.hrl" || line != 101) {
			t.Errorf("the leaf is at %s:%d", file, line)
		}
		if got := fmt.Sprintf("%s %d", file, line); got != stack[i] {
			t.Errorf("%s is at %s, the VM says %s", f.Name, got, stack[i])
		}
		if n, ok := want[f.Name]; ok {
			if file != "deep.erl" || line != n {
				t.Errorf("%s is at %s:%d, its source says %d", f.Name, file, line, n)
			}
			delete(want, f.Name)
		}
	}
	for name := range want {
		t.Errorf("%s is not in the stack", name)
	}
	// A function's entry has the line of its head.
	if table.FrameLayout() != 0 {
		t.Errorf("frame layout %d", table.FrameLayout())
	}
	head := mustFind(t, table, "deep:c/1-CodeInfoPrologue")
	before, _, _ := strings.Cut(deepSource, "\nc(N) ->")
	if file, line := head.Line(head.Start); file != "deep.erl" || line != strings.Count(before, "\n")+2 {
		t.Errorf("the entry of deep:c/1 is at %s:%d", file, line)
	}
}

// Every line that the VM notes for perf is found, from its first to its last
// address.
func TestLinesAreTheVMs(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{Flags: []string{"+JPperf", "dump"}, Eval: strings.TrimSuffix(strings.TrimSpace(loadMany), ",")})
	table := openVM(t, vm)
	functions := dumped(t, fmt.Sprintf("/tmp/jit-%d.dump", vm.PID))
	checked := 0
	for _, function := range functions {
		for i, l := range function.lines {
			first := max(l.address, function.start)
			last := function.start + function.size - 1
			if i+1 < len(function.lines) {
				last = min(function.lines[i+1].address-1, last)
			}
			if first > last {
				continue
			}
			for _, pc := range []uint64{first, last} {
				f, ok := table.Lookup(pc, 0)
				if file, line := f.Line(pc); !ok || f.Raw != function.name || file != l.file || line != l.number {
					t.Fatalf("%#x in %s is at %s:%d, the VM says %s, %s:%d", pc, f.Raw, file, line, function.name, l.file, l.number)
				}
				checked++
			}
		}
	}
	if _, _, lines := table.Stats(); checked < lines || lines < 20000 {
		t.Errorf("%d addresses checked for %d lines", checked, lines)
	}
	t.Logf("%d addresses of %d functions", checked, len(functions))
}

// dumpedFunction is a function in a jitdump file.
type dumpedFunction struct {
	name        string
	start, size uint64
	lines       []dumpedLine
}

type dumpedLine struct {
	address uint64
	file    string
	number  int
}

// dumped reads a jitdump file as the VM writes it (class JitPerfDump of
// beam_jit_metadata.cpp). It ends where the VM has not written on yet.
func dumped(t *testing.T, path string) []dumpedFunction {
	t.Helper()
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r := bufio.NewReader(file)
	var failed error
	skip := func(n uint64) {
		if _, err := r.Discard(int(n)); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	word := func(size uint64) uint64 {
		var b [8]byte
		if _, err := io.ReadFull(r, b[:size]); err != nil {
			failed = errors.Join(failed, err)
		}
		return binary.NativeEndian.Uint64(b[:])
	}
	text := func() string {
		s, err := r.ReadString(0)
		failed = errors.Join(failed, err)
		return strings.TrimSuffix(s, "\x00")
	}
	skip(40) // the file's header
	var functions []dumpedFunction
	var lines []dumpedLine
	for {
		kind := word(4)
		if failed != nil {
			return functions
		}
		skip(4 + 8) // size, time
		switch kind {
		case 0: // code: pid, thread, virtual address, address, size, number, name, code
			skip(4 + 4 + 8)
			f := dumpedFunction{start: word(8), size: word(8), lines: lines}
			skip(8)
			f.name = text()
			skip(f.size)
			functions, lines = append(functions, f), nil
		case 2: // lines: address of the code, number; then address, line, column, file
			skip(8)
			for n := word(8); n > 0 && failed == nil; n-- {
				l := dumpedLine{address: word(8), number: int(word(4))}
				skip(4)
				l.file = text()
				if n > 1 { // the last one stands for the end
					lines = append(lines, l)
				}
			}
		default:
			t.Fatalf("record of kind %d", kind)
		}
	}
}
