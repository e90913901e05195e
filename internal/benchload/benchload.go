// Package benchload starts real VMs with loads whose cost to profile is
// measured: stacks of a known depth, a mix of what servers do, work that is
// counted, and as much code as a large application has.
package benchload

import (
	_ "embed" // for the sources
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/beamprof/beamprof/internal/testsupport"
)

//go:embed testdata/cost.erl
var source string

//go:embed testdata/cost_server.erl
var serverSource string

//go:embed testdata/cost_nif.c
var nifSource string

// Load is something that keeps a VM busy.
type Load struct {
	Name string
	eval string // starts it
}

// towerFrames is the height of the tower: with cost:leaf/1 and cost:spin/2 or
// the NIF above it, 64 frames.
const towerFrames = 62

// Stacks are loads of one process each. Shallow stacks have 3 Erlang frames and
// up to 3 native ones, deep ones 64 and about 10; the leaf is in JIT code, in C
// or in the kernel. mix has stacks as a server has them.
var Stacks = []Load{
	{"shallow/jit", "cost:start(f62, jit)"},
	{"shallow/c", "cost:start(f62, {nif, 1, 0})"},
	{"shallow/kernel", "cost:start(f62, {nif, 1, 1})"},
	{"deep/jit", "cost:start(f1, jit)"},
	{"deep/c", "cost:start(f1, {nif, 7, 0})"},
	{"deep/kernel", "cost:start(f1, {nif, 7, 1})"},
	{"mix", "cost:mix()"},
}

// Asked are loads of one server, busy in JIT code: for nobody who waits, for one
// process, and for a chain of three.
var Asked = []Load{
	{"nobody", "cost:asked(0)"},
	{"one", "cost:asked(1)"},
	{"three", "cost:asked(3)"},
}

// Large has the code of a large application (40 000 ranges of JIT code) and
// counts its work on two schedulers. See Counted.
var Large = Load{"large", "cost:modules(125), cost:count(2)"}

// Start starts a VM that is busy with the load and ends with the test.
func (l Load) Start(t testing.TB, schedulers int) *testsupport.VM {
	t.Helper()
	dir := t.TempDir()
	compileNIF(t, dir)
	const template = "cost_module0000"
	vm := testsupport.StartVM(t, testsupport.Options{
		Flags: []string{"+S", fmt.Sprint(schedulers), "+sbwt", "none"},
		Modules: map[string]string{
			"cost": source, "cost_server": serverSource,
			"tower": tower(towerFrames), template: manyFunctions(template, 100),
		},
		Dir:  dir,
		Eval: l.eval,
	})
	time.Sleep(200 * time.Millisecond)
	return vm
}

// Work is how much a VM that counts its work did since it was started, and when.
type Work struct{ nanoseconds, units int64 }

// Counted returns the work that a VM with the load Large has done.
func Counted(t testing.TB, vm *testsupport.VM) Work {
	t.Helper()
	var w Work
	text := vm.EvalBytes(t, `io_lib:format("~w ~w", [erlang:monotonic_time(nanosecond), cost:counted()])`)
	if _, err := fmt.Sscan(string(text), &w.nanoseconds, &w.units); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return w
}

// Since returns the work per second since an earlier time.
func (w Work) Since(earlier Work) float64 {
	return float64(w.units-earlier.units) * 1e9 / float64(w.nanoseconds-earlier.nanoseconds)
}

// tower returns the source of the module tower: functions f1 to fN, each of
// which calls the next and keeps its two arguments meanwhile.
func tower(frames int) string {
	var b strings.Builder
	b.WriteString("-module(tower).\n-compile(export_all).\n-compile(nowarn_export_all).\n")
	for i := 1; i < frames; i++ {
		fmt.Fprintf(&b, "f%d(W, S) -> R = f%d(W, S), {R, W, S}.\n", i, i+1)
	}
	fmt.Fprintf(&b, "f%d(W, S) -> R = cost:leaf(W), {R, W, S}.\n", frames)
	return b.String()
}

// manyFunctions returns the source of a module with that many functions.
func manyFunctions(name string, count int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "-module(%s).\n-compile(export_all).\n-compile(nowarn_export_all).\n", name)
	for i := range count {
		fmt.Fprintf(&b, "f%d(A, B) ->\n    C = lists:reverse(A),\n    D = length(B) + %d,\n    {C, erlang:phash2(D)}.\n", i, i)
	}
	return b.String()
}

func compileNIF(t testing.TB, dir string) {
	t.Helper()
	compiler := testsupport.RequireCommand(t, "gcc", "gcc")
	testsupport.RequireErlang(t)
	root, err := exec.Command(testsupport.Erl(), "-noshell", "-eval", `io:format("~s", [code:root_dir()]), halt().`).Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "cost_nif.c")
	if err := os.WriteFile(file, []byte(nifSource), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(compiler, "-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-shared", "-fPIC",
		"-I", filepath.Join(string(root), "usr/include"), "-o", filepath.Join(dir, "cost_nif.so"), file).CombinedOutput()
	if err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
}
