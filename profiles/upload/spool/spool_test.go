package spool

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var roomy = Limits{MaxBytes: 1 << 30}

// open opens a queue that notes why payloads are dropped.
func open(t testing.TB, dir string, limits Limits) (*Queue, *[]string) {
	t.Helper()
	var reasons []string
	q, err := Open(dir, limits, func(reason string) { reasons = append(reasons, reason) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q, &reasons
}

func push(t testing.TB, q *Queue, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		if err := q.Push(time.Now(), []byte(p)); err != nil {
			t.Fatal(err)
		}
	}
}

// drain returns what is in the queue, in order, and empties it.
func drain(t testing.TB, q *Queue) []string {
	t.Helper()
	payloads := []string{}
	for {
		item, err := q.Next(0, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if item == nil {
			return payloads
		}
		payloads = append(payloads, string(item.Payload))
		q.Remove(item.Number)
	}
}

func TestInOrderAndStillThereAfterwards(t *testing.T) {
	dir := t.TempDir()
	q, _ := open(t, dir, roomy)
	push(t, q, "a", "b", "", "c")
	if _, err := Open(dir, roomy, nil); !errors.Is(err, ErrLocked) {
		t.Errorf("opening it twice: %v", err)
	}
	item, err := q.Next(0, time.Now())
	if err != nil || string(item.Payload) != "a" {
		t.Fatalf("the first is %v, %v", item, err)
	}
	q.Remove(item.Number)
	if behind, _ := q.Next(2, time.Now()); behind == nil || string(behind.Payload) != "" {
		t.Errorf("behind the second is %v", behind)
	}
	q.Close()

	q, reasons := open(t, dir, roomy)
	if n, size, oldest := q.Size(); n != 3 || size != 2 || time.Since(oldest) > time.Minute {
		t.Errorf("%d payloads of %d bytes since %v", n, size, oldest)
	}
	push(t, q, "d")
	if got := drain(t, q); !slices.Equal(got, []string{"b", "", "c", "d"}) || len(*reasons) > 0 {
		t.Errorf("got %q, dropped %v", got, *reasons)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+suffix+"*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestBounds(t *testing.T) {
	now := time.Now()
	q, reasons := open(t, t.TempDir(), Limits{MaxBytes: 10, MaxAge: time.Minute})
	push(t, q, "1234", "5678")
	if item, _ := q.Next(0, now); string(item.Payload) != "1234" {
		t.Fatal("wrong order")
	}
	push(t, q, "abcd") // the first is being worked on, so the second goes
	if err := q.Push(now.Add(-time.Hour), []byte("xy")); err != nil {
		t.Fatal(err)
	}
	push(t, q, "longer than all")
	if got := drain(t, q); !slices.Equal(got, []string{"1234", "abcd"}) {
		t.Errorf("got %q", got)
	}
	if want := []string{ReasonFull, ReasonFull, ReasonAge}; !slices.Equal(*reasons, want) {
		t.Errorf("dropped for %v, want %v", *reasons, want)
	}
}

// TestDamageAtEveryByte: whatever a power cut made of the newest write, the
// others are there, and what is not whole is not handed out.
func TestDamageAtEveryByte(t *testing.T) {
	template := t.TempDir()
	q, _ := open(t, template, roomy)
	push(t, q, "the first", "the second", "the newest, which is damaged")
	q.Close()
	names, err := filepath.Glob(filepath.Join(template, "*"+suffix))
	if err != nil || len(names) != 3 {
		t.Fatal(names, err)
	}
	whole, err := os.ReadFile(names[2])
	if err != nil {
		t.Fatal(err)
	}
	damages := map[string][]byte{}
	for i := range whole {
		damages[fmt.Sprintf("cut at %d", i)] = whole[:i]
		damages[fmt.Sprintf("zeros from %d", i)] = append(slices.Clone(whole[:i]), make([]byte, len(whole)-i)...)
		flipped := slices.Clone(whole)
		flipped[i] ^= 1 << (i % 8)
		damages[fmt.Sprintf("a bit of byte %d", i)] = flipped
	}
	damages["garbage behind"] = append(slices.Clone(whole), 1)
	for what, content := range damages {
		for _, end := range []string{"", temporary} {
			dir := t.TempDir()
			for _, name := range names[:2] {
				if err := os.Link(name, filepath.Join(dir, filepath.Base(name))); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(names[2])+end), content, 0o600); err != nil {
				t.Fatal(err)
			}
			q, reasons := open(t, dir, roomy)
			push(t, q, "written afterwards")
			if got := drain(t, q); !slices.Equal(got, []string{"the first", "the second", "written afterwards"}) {
				t.Errorf("%s%s: got %q", what, end, got)
			}
			if damaged := slices.Equal(*reasons, []string{ReasonDamaged}); damaged != (end == "") {
				t.Errorf("%s%s: dropped for %v", what, end, *reasons)
			}
			q.Close()
			if left, _ := filepath.Glob(filepath.Join(dir, "*"+suffix+"*")); len(left) > 0 {
				t.Errorf("%s%s: left behind: %v", what, end, left)
			}
		}
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"README", "0000000000000000-1.spool", "1-1.spool", "0000000000000001-x.spool", "0000000000000001-1.spool2", "ffffffffffffffff-1.spool"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	q, _ := open(t, dir, roomy)
	push(t, q, "a")
	if got := drain(t, q); !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %q", got)
	}
	if files, _ := os.ReadDir(dir); len(files) != 7 { // and the lock
		t.Errorf("%d files are left", len(files))
	}
}

// TestNoRoomOnDisk: a Push that fails says so and leaves nothing.
func TestNoRoomOnDisk(t *testing.T) {
	dir := t.TempDir()
	q, _ := open(t, dir, roomy)
	push(t, q, "a")
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := q.Push(time.Now(), []byte("b")); err == nil || !strings.Contains(err.Error(), "write to the spool") {
		t.Errorf("a directory that is gone: %v", err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	push(t, q, "c")
	if got := drain(t, q); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("got %q", got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte(magic))
	f.Add(encode([]byte("payload")))
	f.Fuzz(func(t *testing.T, content []byte) {
		if payload, ok := decode(content); ok && !bytes.Equal(encode(payload), content) {
			t.Errorf("%q was taken for %q", content, payload)
		}
		if payload, ok := decode(encode(content)); !ok || !bytes.Equal(payload, content) {
			t.Errorf("%q became %q, %v", content, payload, ok)
		}
	})
}

func FuzzName(f *testing.F) {
	f.Add("0000000000000001-1764108000000000000.spool")
	f.Add("0000000000000001--1.spool")
	f.Fuzz(func(t *testing.T, name string) {
		if e, ok := parseName(name); ok && (e.name() != name || e.number == 0 || strings.ContainsAny(name, "/\x00")) {
			t.Errorf("%q was taken for %+v", name, e)
		}
	})
}

func BenchmarkPush(b *testing.B) {
	q, _ := open(b, b.TempDir(), Limits{MaxBytes: 10 << 20})
	payload := bytes.Repeat([]byte("x"), 100<<10)
	for range b.N {
		if err := q.Push(time.Now(), payload); err != nil {
			b.Fatal(err)
		}
	}
}
