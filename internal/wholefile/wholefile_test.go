package wholefile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	name, temporary := filepath.Join(dir, "name"), filepath.Join(dir, ".name")
	for _, content := range []string{"first", "the second, which is longer", ""} {
		if err := Write(name, temporary, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != content {
			t.Errorf("%q, %v", got, err)
		}
	}
	if info, err := os.Stat(name); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d files", len(entries))
	}
}

// TestNothingIsLeftAfterAnError: the place of the file is taken by a directory.
func TestNothingIsLeftAfterAnError(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "name")
	if err := os.MkdirAll(filepath.Join(name, "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(name, filepath.Join(dir, ".name"), []byte("x"), 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d files", len(entries))
	}
	if err := Write(filepath.Join(dir, "no", "name"), filepath.Join(dir, "no", ".name"), nil, 0o600); err == nil {
		t.Error("no directory, and no error")
	}
}
