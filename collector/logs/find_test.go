package logs

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// shell is a process that does what it is told on its standard input.
type shell struct {
	*exec.Cmd
	input  io.Writer
	output *bufio.Reader
}

func startShell(t *testing.T, dir string) *shell {
	t.Helper()
	s := &shell{Cmd: exec.Command("sh")}
	s.Dir = dir
	input, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Process.Kill(); s.Wait() })
	s.input, s.output = input, bufio.NewReader(output)
	return s
}

// do executes commands and returns when they are done.
func (s *shell) do(t *testing.T, commands string) {
	t.Helper()
	if _, err := io.WriteString(s.input, commands+"\necho done\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := s.output.ReadString('\n'); err != nil || line != "done\n" {
		t.Fatalf("%q, %v", line, err)
	}
}

func paths(sources []source) []string {
	var found []string
	for _, s := range sources {
		found = append(found, filepath.Base(s.path()))
	}
	slices.Sort(found)
	return found
}

// TestFind: what a process appends text to is a log; databases, pipes, devices
// and deleted files are none.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	s := startShell(t, dir)
	if _, err := find(s.Process.Pid); !errors.Is(err, ErrNoLog) || !strings.Contains(err.Error(), "goes to a pipe") || !strings.Contains(err.Error(), "--log FILE") {
		t.Errorf("%v", err)
	}
	write(t, filepath.Join(dir, "binary.log"), 0, "\x00\x01\n")
	s.do(t, "exec 3>>console.log 4>data.db 5>>binary.log 6>>gone.log 7<console.log 8>>/dev/null 9>>console.log; rm gone.log")
	sources, err := find(s.Process.Pid)
	if err != nil || !slices.Equal(paths(sources), []string{"console.log"}) {
		t.Errorf("%v, %v", paths(sources), err)
	}
	s.do(t, "exec 2>stderr.txt")
	if sources, err := find(s.Process.Pid); err != nil || !slices.Equal(paths(sources), []string{"console.log", "stderr.txt"}) {
		t.Errorf("%v, %v", paths(sources), err)
	}
	if _, err := find(1 << 22); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestFindRotated: the file that takes a log's place is the one that the
// process opens, and not what somebody else puts there.
func TestFindRotated(t *testing.T) {
	dir := t.TempDir()
	s := startShell(t, dir)
	s.do(t, "exec 3>>console.log")
	session, err := Open(Options{PID: s.Process.Pid, Signals: signals(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { session.Run(ctx); close(done) }()
	file := filepath.Join(dir, "console.log")
	write(t, file, os.O_APPEND, unknownLine)
	if err := os.Rename(file, file+".0"); err != nil {
		t.Fatal(err)
	}
	write(t, file, 0, unknownLine, unknownLine, unknownLine) // not by the process
	time.Sleep(2 * pollInterval)
	write(t, file+".0", os.O_APPEND, unknown2) // the process still has this one
	time.Sleep(2 * pollInterval)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s.do(t, "exec 4>>console.log 3>&-")
	write(t, file, os.O_APPEND, unknownLine, unknown2)
	time.Sleep(3 * pollInterval)
	stop()
	<-done
	r := session.Result()
	if c := find1(t, r, "unknown"); c.InWindow != 4 || r.Files[0].Rotations != 1 {
		t.Errorf("%+v, %+v", c, r.Files)
	}
}
