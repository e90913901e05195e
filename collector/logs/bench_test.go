package logs

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loads are what is written to a log: how many of a hundred lines are signals.
var loads = map[string]int{"none": 0, "one_in_ten": 10, "all": 100}

// block makes lines of which some are signals.
func block(lines, percent int) string {
	var b strings.Builder
	for i := range lines {
		switch {
		case i%100 >= percent:
			b.WriteString(otherLine)
		case i%3 == 0:
			b.WriteString(aeLine(i%60, i%10, 200))
		case i%3 == 1:
			b.WriteString(failedLine)
		default:
			b.WriteString(unknownLine)
		}
	}
	return b.String()
}

// BenchmarkLines is what a line costs that is in memory.
func BenchmarkLines(b *testing.B) {
	for name, percent := range loads {
		b.Run(name, func(b *testing.B) {
			const n = 10_000
			data, l, c := []byte(block(n, percent)), newLines(signals(b)), newCounts(signals(b))
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			var k clock
			for b.Loop() {
				l.read(data, moment{live: true, now: time.Now()}, &k, c)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/line")
		})
	}
}

// BenchmarkFollow is what it costs to follow a log to which 50 000 lines are
// written each second, in percent of a core: user and system time of the thread
// that follows. Each iteration takes five seconds: run it with -benchtime 1x or 3x.
func BenchmarkFollow(b *testing.B) {
	const perSecond, ticks = 50_000, 100
	for name, percent := range loads {
		b.Run(name, func(b *testing.B) {
			content := block(perSecond/ticks, percent)
			var used time.Duration
			for b.Loop() {
				used += followFor(b, content, ticks)
			}
			b.ReportMetric(100*used.Seconds()/followSeconds/float64(b.N), "%core")
		})
	}
}

const followSeconds = 5

// followFor follows a log for some seconds to which content is written so many
// times a second, and returns the CPU time that took.
func followFor(b *testing.B, content string, ticks int) time.Duration {
	f, err := os.Create(filepath.Join(b.TempDir(), "console.log"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	s, err := Open(Options{Files: []string{f.Name()}, Signals: signals(b)})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	ctx, stop := context.WithCancel(b.Context())
	used := make(chan time.Duration)
	go func() {
		runtime.LockOSThread()
		before := threadTime()
		s.Run(ctx)
		used <- threadTime() - before
	}()
	tick := time.NewTicker(time.Second / time.Duration(ticks))
	defer tick.Stop()
	for range ticks * followSeconds {
		<-tick.C
		if _, err := f.WriteString(content); err != nil {
			b.Fatal(err)
		}
	}
	stop()
	took := <-used
	if r := s.Result().Files[0]; r.Skipped > 0 || r.Lines != uint64(strings.Count(content, "\n")*ticks*followSeconds) {
		b.Errorf("%+v", r)
	}
	return took
}

// threadTime is the CPU time of the calling thread.
func threadTime() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
