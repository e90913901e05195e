package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func pattern(t testing.TB, text string) *Pattern {
	t.Helper()
	p, err := ParsePattern(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p
}

// signals are some of VerneMQ's.
func signals(t testing.TB) []Signal {
	t.Helper()
	return []Signal{
		{Name: "unknown", Patterns: []*Pattern{pattern(t, "got unknown sync event in {state} state {event}")}},
		{Name: "ae", Patterns: []*Pattern{pattern(t, "Replica {group}: AE exchange with {peer} synced {count} objects")}},
		{Name: "empty", Of: "ae", Repeats: "count", Times: 3},
		{Name: "failed", Patterns: []*Pattern{pattern(t, "can't register client {_} with username {_} due to {reason}")}},
	}
}

const (
	unknownLine = "2026-11-22 13:13:01.658 [error] <0.522.0>@vmq_queue:unknown:{172,9} got unknown sync event in drain state {cleanup,session_taken_over}\n"
	unknown2    = "2026-11-22T12:13:02.658123+00:00 [error] <0.522.0> vmq_queue:unknown/3:172: got unknown sync event in wait_for_offline state {cleanup,session_taken_over}\n"
	failedLine  = "2026-11-22 13:13:01.658 [warning] <0.9.0>@vmq_mqtt_fsm:check:{63,9} can't register client {[],<<\"secret-id\">>} with username <<\"joe\">> due to not_ready\n"
	otherLine   = "2026-11-22 13:13:01.658 [info] <0.522.0>@vmq_ranch:init:{1,2} something that nobody looks for, as long as lines are in real logs\n"
)

func aeLine(second, group, count int) string {
	return fmt.Sprintf("2026-11-22 13:13:%02d.000 [info] <0.52.0>@vmq_swc_exchange_fsm:x:{75,9} Replica meta%d: AE exchange with 'VerneMQ1@127.0.0.1' synced %d objects\n", second, group, count)
}

// follow runs a session on files while do changes them, and returns what was found.
func follow(t *testing.T, files []string, do func()) Result {
	t.Helper()
	s, err := Open(Options{Files: files, Signals: signals(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	do()
	stop()
	<-done
	return s.Result()
}

func find1(t *testing.T, r Result, name string) Count {
	t.Helper()
	for _, c := range r.Counts {
		if c.Signal.Name == name {
			return c
		}
	}
	return Count{}
}

func write(t *testing.T, file string, flags int, lines ...string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|flags, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(strings.Join(lines, "")); err != nil {
		t.Fatal(err)
	}
}

func TestFollow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "console.log")
	past := time.Now().Add(-10 * time.Minute)
	old := past.Add(-2 * time.Hour)
	at := func(t time.Time, line string) string { return t.Format("2006-01-02 15:04:05.000") + line[23:] }
	write(t, file, os.O_APPEND, at(old, unknownLine), at(past, unknownLine), at(past, aeLine(1, 7, 5)))
	if err := os.Chtimes(file, past, past); err != nil {
		t.Fatal(err)
	}
	r := follow(t, []string{file}, func() {
		now := time.Now()
		write(t, file, os.O_APPEND, otherLine, at(now, unknownLine), failedLine[:30])
		time.Sleep(2 * pollInterval)
		write(t, file, os.O_APPEND, failedLine[30:], at(now, aeLine(1, 7, 5)), at(now, aeLine(1, 8, 5)), at(now, aeLine(1, 7, 5)), "not whole: got unknown sync event in drain state x")
	})
	unknown := find1(t, r, "unknown")
	if unknown.Count != 2 || unknown.InWindow != 1 {
		t.Errorf("%+v", unknown)
	}
	// The test's zone is whatever it is: stamps are read as the file's own.
	if d := unknown.First.Sub(past).Abs(); d > time.Second {
		t.Errorf("first %v, not %v", unknown.First, past)
	}
	if v := unknown.Values[0]; v.Fields["state"] != "drain" || v.Fields["event"] != "{cleanup,session_taken_over}" || v.Count != 2 {
		t.Errorf("%+v", v)
	}
	if ae := find1(t, r, "ae"); ae.Count != 4 || ae.InWindow != 3 || ae.Values[0].Fields["group"] != "meta7" || ae.Values[0].Count != 3 {
		t.Errorf("%+v", ae)
	}
	if empty := find1(t, r, "empty"); empty.Count != 3 || empty.InWindow != 2 || empty.First.After(past.Add(time.Second)) {
		t.Errorf("%+v", empty)
	}
	failed := find1(t, r, "failed")
	if failed.Count != 1 || strings.Contains(failed.Example, "secret") || strings.Contains(failed.Example, "joe") || failed.Example != "can't register client _ with username _ due to not_ready" {
		t.Errorf("%+v", failed)
	}
}

// TestRotation: a file that is renamed is read to its end, and its successor from its beginning.
func TestRotation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "console.log")
	write(t, file, 0)
	r := follow(t, []string{file}, func() {
		for range 3 {
			write(t, file, os.O_APPEND, unknownLine)
			time.Sleep(2 * pollInterval)
			write(t, file, os.O_APPEND, unknown2)
			if err := os.Rename(file, file+".0"); err != nil {
				t.Fatal(err)
			}
			write(t, file, 0, unknownLine, unknown2)
		}
	})
	if c := find1(t, r, "unknown"); c.InWindow != 12 || r.Files[0].Rotations != 3 || r.Files[0].Lines != 12 {
		t.Errorf("%+v, %+v", c, r.Files[0])
	}
}

// TestTruncation: a file that is copied and truncated is read from its beginning, also if it has grown again meanwhile.
func TestTruncation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "console.log")
	write(t, file, 0, otherLine)
	r := follow(t, []string{file}, func() {
		write(t, file, os.O_APPEND, unknownLine)
		time.Sleep(2 * pollInterval)
		write(t, file, os.O_TRUNC, unknown2)
		time.Sleep(2 * pollInterval)
		write(t, file, os.O_TRUNC, otherLine, otherLine, otherLine, unknownLine, unknown2)
	})
	if c := find1(t, r, "unknown"); c.InWindow != 4 || r.Files[0].Rotations != 2 {
		t.Errorf("%+v, %+v", c, r.Files[0])
	}
}

// TestSeveralFiles: VerneMQ writes errors to error.log as well as to console.log.
func TestSeveralFiles(t *testing.T) {
	dir := t.TempDir()
	console, errors := filepath.Join(dir, "console.log"), filepath.Join(dir, "error.log")
	write(t, console, 0)
	write(t, errors, 0)
	r := follow(t, []string{console, errors}, func() {
		write(t, console, os.O_APPEND, unknownLine, aeLine(1, 1, 1), unknownLine)
		write(t, errors, os.O_APPEND, unknownLine, unknownLine)
	})
	if find1(t, r, "unknown").Count != 2 || find1(t, r, "ae").Count != 1 || len(r.Files) != 2 {
		t.Errorf("%+v", r)
	}
}

// TestLongLines: lines of any length and bytes of any kind are bounded, and do no harm to others.
func TestLongLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "console.log")
	write(t, file, 0)
	r := follow(t, []string{file}, func() {
		write(t, file, os.O_APPEND, strings.Repeat("x", 3*bufferSize), "got unknown sync event in far state away\n", unknownLine,
			"\xff\xfe\x00 got unknown sync event in \xff state \x1b[2J\n", "got unknown sync event in ", strings.Repeat("y", bufferSize), " state z\n", unknown2)
	})
	if c := find1(t, r, "unknown"); c.InWindow != 3 {
		t.Errorf("%+v", c)
	}
}

// TestTooFast: what is written faster than it may be read is counted as skipped.
func TestTooFast(t *testing.T) {
	file := filepath.Join(t.TempDir(), "console.log")
	write(t, file, 0)
	f, err := openFile(namedFile(file), newCounts(signals(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	content := strings.Repeat(otherLine, 2*maxPoll/len(otherLine)) + unknownLine
	write(t, file, os.O_APPEND, content)
	f.poll(newLines(signals(t)))
	if f.Skipped != uint64(len(content)-maxPoll) || f.counts.counts[0].count != 1 || f.Bytes != maxPoll {
		t.Errorf("%+v", f.File)
	}
}

// TestFirstInLineCounts: text of a client's does not pass for a line of the VM's.
func TestFirstInLineCounts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "console.log")
	write(t, file, 0)
	r := follow(t, []string{file}, func() {
		write(t, file, os.O_APPEND, "x can't register client <<\"got unknown sync event in a state b\">> with username u due to reason r\n")
	})
	if find1(t, r, "unknown").Count != 0 || find1(t, r, "failed").Count != 1 {
		t.Errorf("%+v", r)
	}
}

func TestMissingAndOtherFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(Options{Files: []string{filepath.Join(dir, "none.log")}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := Open(Options{Files: []string{dir}}); !errors.Is(err, errNotRegular) {
		t.Errorf("%v", err)
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "no literal part"}, {"short {a}", "no literal part"}, {"{a} is in state x", "no text before"}, {"something {a}{b}", "no text before"},
		{"something } else", "a } without"}, {"something {A}", "a field is"}, {"something {a", "a field is"}, {"something {a} or {a}", "stands twice"},
		{"something\nelse", "a control character"}, {strings.Repeat("x", 300), "longer than"}, {"something" + strings.Repeat("{_} ", 9), "more than 8 fields"},
	} {
		if _, err := ParsePattern(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, not %s", c.text, err, c.want)
		}
	}
	p := pattern(t, "state is {{{state},x}} now {rest}")
	start, end, values := p.match([]byte("the state is {on,x} now and ever"), 0, nil)
	if start != 4 || end != 32 || len(values) != 2 || values[0] != [2]int{14, 16} || values[1] != [2]int{24, 32} {
		t.Errorf("%d %v", start, values)
	}
	for _, c := range []struct {
		p, q string
		want bool
	}{
		{"client {_} failed to connect", "client {_} failed to connect due to {reason}", true},
		{"failed to connect", "client {_} failed to connect", false}, // the second begins earlier, and wins
		{"client {_} failed to connect due to {reason}", "client {_} failed to connect", false},
		{"client {_} has failed", "client joe has failed to connect", true},
	} {
		if got := pattern(t, c.p).Covers(pattern(t, c.q)); got != c.want {
			t.Errorf("%q covers %q: %v", c.p, c.q, got)
		}
	}
}

// TestSearch: texts are found where they are, one after the other and several
// that begin at one place.
func TestSearch(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	word := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "abc"[random.IntN(3)]
		}
		return string(b)
	}
	for range 1000 {
		var texts []string
		for range 1 + random.IntN(8) {
			texts = append(texts, word(minText+random.IntN(4)))
		}
		s := newSearch(texts)
		data := []byte(word(random.IntN(40)) + "\xff\x00")
		from := 0
		for at := range data {
			var want uint64
			for i, text := range texts {
				if bytes.HasPrefix(data[at:], []byte(text)) {
					want |= 1 << i
				}
			}
			if want == 0 {
				continue
			}
			if got, found := s.next(data, from); got != at || found != want {
				t.Fatalf("%q in %q from %d: %b at %d, not %b at %d", texts, data, from, found, got, want, at)
			}
			from = at + 1
		}
		if at, _ := s.next(data, from); at != -1 {
			t.Fatalf("%q in %q from %d: at %d", texts, data, from, at)
		}
	}
	if at, _ := newSearch(nil).next([]byte("abc"), 0); at != -1 {
		t.Error("nothing was found")
	}
	long := strings.Repeat("x", 300)
	if at, _ := newSearch([]string{long}).next([]byte("yy"+long), 0); at != 2 {
		t.Errorf("a long text is found at %d", at)
	}
}

func TestStamps(t *testing.T) {
	var one stamps // of all lines, some of which have the second of the one before
	for _, c := range []struct {
		line  string
		want  string
		zoned bool
	}{
		{"2026-11-22 13:13:01.658 [info] x", "2026-11-22T13:13:01.658Z", false},
		{strings.Repeat("\x00", 30), "", false},
		{"2026-11-22 13:13:01 x", "2026-11-22T13:13:01Z", false},
		{"2026-11-22T13:13:01.658123+02:00 x", "2026-11-22T11:13:01.658123Z", true},
		{"2026-11-22T13:13:01-05:30", "2026-11-22T18:43:01Z", true},
		{"2026-11-22T13:13:01.1234567891234Z", "2026-11-22T13:13:01.123456789Z", true},
		{"2026-13-22 13:13:01", "", false}, {"x026-11-22 13:13:01", "", false}, {"2026-11-22", "", false}, {"2026-11-22 25:13:01", "", false},
	} {
		s, ok := one.parse([]byte(c.line))
		if ok != (c.want != "") || ok && (s.time.Format(time.RFC3339Nano) != c.want || s.zoned != c.zoned) {
			t.Errorf("%s: %v %v", c.line, s, ok)
		}
	}
	var k clock
	s, _ := parseStamp([]byte("2026-11-22 15:13:01"))
	k.calibrate(s, time.Date(2026, 11, 22, 13, 13, 4, 0, time.UTC))
	if got := k.time(s); !got.Equal(time.Date(2026, 11, 22, 13, 13, 1, 0, time.UTC)) {
		t.Errorf("%v", got)
	}
}
