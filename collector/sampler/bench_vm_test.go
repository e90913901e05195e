package sampler

import (
	_ "embed"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/internal/testsupport"
)

//go:embed testdata/cost.erl
var costSource string

//go:embed testdata/cost_server.erl
var costServerSource string

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

// towerFrames is the height of the tower: with cost:leaf/1 above it, the fun it
// is called from and erlang:apply/2 below, 64 frames.
const towerFrames = 61

// load is a load of which samples are taken.
type load struct {
	name string
	eval string // starts it
}

var stackLoads = []load{
	{"shallow/jit", "cost:start(f61, jit)"},
	{"shallow/c", "cost:start(f61, {nif, 1, 0})"},
	{"shallow/kernel", "cost:start(f61, {nif, 1, 1})"},
	{"deep/jit", "cost:start(f1, jit)"},
	{"deep/c", "cost:start(f1, {nif, 8, 0})"},
	{"deep/kernel", "cost:start(f1, {nif, 8, 1})"},
	{"mix", "cost:mix()"},
}

// startLoad starts a VM that is busy with a load on its one scheduler.
func startLoad(t testing.TB, l load) *beam.Target {
	t.Helper()
	return startVM(t, 1, l.eval)
}

// startVM starts a VM with as many schedulers, which do what eval says.
func startVM(t testing.TB, schedulers int, eval string) *beam.Target {
	t.Helper()
	testsupport.RequireBPF(t)
	dir := t.TempDir()
	compileNIF(t, dir)
	vm := testsupport.StartVM(t, testsupport.Options{
		Flags:   []string{"+S", fmt.Sprint(schedulers), "+sbwt", "none"},
		Modules: map[string]string{"cost": costSource, "cost_server": costServerSource, "tower": tower(towerFrames)},
		Dir:     dir,
		Eval:    eval,
	})
	time.Sleep(200 * time.Millisecond)
	target, err := beam.Attach(vm.PID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	return target
}

func compileNIF(t testing.TB, dir string) {
	t.Helper()
	compiler := testsupport.RequireCommand(t, "gcc", "gcc")
	root, err := exec.Command(testsupport.Erl(), "-noshell", "-eval", `io:format("~s", [code:root_dir()]), halt().`).Output()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(compiler, "-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-shared", "-fPIC",
		"-I", filepath.Join(string(root), "usr/include"), "-o", filepath.Join(dir, "cost_nif.so"), "testdata/cost_nif.c").CombinedOutput()
	if err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
}
