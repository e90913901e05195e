package testsupport

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// compiled keeps the object code of every source compiled so far, so that
// tests which start many VMs wait for the compiler once.
var compiled sync.Map // compileKey -> *compilation

type compileKey struct{ erl, name, source string }

type compilation struct {
	once sync.Once
	code []byte
	err  error
}

// compileInto writes the object code of the modules to a directory.
func compileInto(t testing.TB, erl, directory string, modules map[string]string) {
	t.Helper()
	for name, source := range modules {
		entry, _ := compiled.LoadOrStore(compileKey{erl, name, source}, new(compilation))
		c := entry.(*compilation)
		c.once.Do(func() { c.code, c.err = compile(erl, name, source) })
		if c.err != nil {
			t.Fatalf("compiling %s.erl: %v", name, c.err)
		}
		if err := os.WriteFile(filepath.Join(directory, name+".beam"), c.code, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func compile(erl, name, source string) ([]byte, error) {
	directory, err := os.MkdirTemp("", "beamprof-erlc-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(directory)
	file := name + ".erl"
	if err := os.WriteFile(filepath.Join(directory, file), []byte(source), 0o644); err != nil {
		return nil, err
	}
	// A relative name: it is the file that line numbers refer to.
	cmd := exec.Command(beside(erl, "erlc"), "+debug_info", file)
	cmd.Dir = directory
	cmd.Env = append(os.Environ(), "HOME="+directory)
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, text)
	}
	return os.ReadFile(filepath.Join(directory, name+".beam"))
}
