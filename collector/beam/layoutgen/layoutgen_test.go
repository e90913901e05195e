package main

import (
	"debug/dwarf"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// source has structures as C programs do: nested, anonymous, repeated under
// the same name, declared only.
const source = `
typedef unsigned long Eterm;
struct undefined_here;
typedef struct { Eterm id; union { struct { Eterm started; struct undefined_here *reg; } alive; int released; } u; } Common;
struct process { Common common; Eterm *htop; volatile struct { int a, b; } v; const Common last; };
typedef union { struct process p; char align[256]; } Aligned;
struct process *first(struct process *p, Aligned *a) { return a ? &a->p : p; }
`

// other is another program's structure of the same name.
const other = `
struct process { int pid; };
int pid_of(struct process *p) { return p->pid; }
`

func compile(t *testing.T, sources ...string) *dwarf.Data {
	t.Helper()
	compiler := testsupport.RequireCommand(t, "gcc", "gcc")
	directory := t.TempDir()
	arguments := []string{"-g", "-shared", "-fPIC", "-o", filepath.Join(directory, "test.so")}
	for i, text := range sources {
		name := filepath.Join(directory, string(rune('a'+i))+".c")
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		arguments = append(arguments, name)
	}
	if text, err := exec.Command(compiler, arguments...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	file, err := elf.Open(filepath.Join(directory, "test.so"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	data, err := file.DWARF()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestFill(t *testing.T) {
	type process struct {
		Size       beam.Offset `c:"sizeof"`
		ID         beam.Offset `c:"common.id"`
		Registered beam.Offset `c:"common.u.alive.reg"`
		HTop       beam.Offset `c:"no_such_name|htop"`
		B          beam.Offset `c:"v.b"`
		LastID     beam.Offset `c:"last.id"`
		Optional   beam.Offset `c:"frame_pointer?"`
	}
	// Whichever comes first, the structure that has all fields is taken.
	for _, sources := range [][]string{{source, other}, {other, source}} {
		found, err := structures(compile(t, sources...), map[string]bool{"process": true, "Aligned": true, "undefined_here": true})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(found.producer, "GNU C") {
			t.Errorf("producer %q", found.producer)
		}
		var got process
		if err := fill(reflect.ValueOf(&got).Elem(), found.candidates([]string{"process"})); err != nil {
			t.Fatal(err)
		}
		if want := (process{64, 0, 16, 24, 36, 40, beam.Missing}); got != want {
			t.Errorf("%+v, not %+v", got, want)
		}
		var aligned struct {
			Stride beam.Offset `c:"sizeof"`
		}
		if err := fill(reflect.ValueOf(&aligned).Elem(), found.candidates([]string{"nothing", "Aligned"})); err != nil || aligned.Stride != 256 {
			t.Errorf("%+v, %v", aligned, err)
		}
		var missing struct {
			Field beam.Offset `c:"this|that"`
		}
		err = fill(reflect.ValueOf(&missing).Elem(), found.candidates([]string{"process"}))
		if err == nil || !strings.Contains(err.Error(), "this or that") {
			t.Errorf("a missing field: %v", err)
		}
		if err := fill(reflect.ValueOf(&missing).Elem(), found.candidates([]string{"undefined_here"})); err == nil {
			t.Error("filled from a structure that is only declared")
		}
	}
	if _, err := structures(compile(t, "int x;"), map[string]bool{"process": true}); err == nil {
		t.Error("no error without any structure")
	}
}

func TestRunErrors(t *testing.T) {
	for name, test := range map[string]struct {
		options options
		want    string
	}{
		"nothing":         {options{}, "required"},
		"no file":         {options{binary: "/no/such/file", release: "25", source: "x"}, "no such file"},
		"not ELF":         {options{binary: "layoutgen_test.go", release: "25", source: "x"}, "magic"},
		"no debug info":   {options{binary: "/proc/self/exe", release: "25", source: "x", directory: t.TempDir()}, ""},
		"unknown release": {options{binary: "/proc/self/exe", release: "1", source: "x", directory: t.TempDir()}, ""},
	} {
		if err := run(test.options); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// debugVariable names an emulator of OTP 25 for amd64 with debug information,
// built as the committed table says.
const debugVariable = "BEAMPROF_DEBUG_EMULATOR"

func TestCommittedTableIsGenerated(t *testing.T) {
	binary := os.Getenv(debugVariable)
	if binary == "" {
		t.Skip("set " + debugVariable + " to a beam.smp of OTP 25 that was built with -g")
	}
	directory := t.TempDir()
	committed, err := os.ReadFile("../layout_otp25_jit_x86_64.go")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(committed), "// Source: ")
	text, _, _ = strings.Cut(text, "\n")
	if err := run(options{binary: binary, release: "25", flavor: "jit", source: text, directory: directory}); err != nil {
		t.Fatal(err)
	}
	generated, err := os.ReadFile(filepath.Join(directory, "layout_otp25_jit_x86_64.go"))
	if err != nil {
		t.Fatal(err)
	}
	if string(generated) != string(committed) {
		t.Error("the committed table differs from what is generated")
	}
}
