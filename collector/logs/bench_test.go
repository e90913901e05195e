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
// that follows. Run it with -benchtime 1x.
func BenchmarkFollow(b *testing.B) {
	const perSecond, seconds, ticks = 50_000, 5, 100
	for name, percent := range loads {
		b.Run(name, func(b *testing.B) {
			file := filepath.Join(b.TempDir(), "console.log")
			f, err := os.Create(file)
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			s, err := Open(Options{Files: []string{file}, Signals: signals(b)})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			ctx, stop := context.WithTimeout(b.Context(), seconds*time.Second+2*pollInterval)
			defer stop()
			content := block(perSecond/ticks, percent)
			used := make(chan time.Duration)
			for b.Loop() {
				go func() {
					runtime.LockOSThread()
					s.Run(ctx)
					var usage unix.Rusage
					if err := unix.Getrusage(unix.RUSAGE_THREAD, &usage); err != nil {
						panic(err)
					}
					used <- time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
				}()
				tick := time.NewTicker(time.Second / ticks)
				for range ticks * seconds {
					<-tick.C
					if _, err := f.WriteString(content); err != nil {
						b.Fatal(err)
					}
				}
				tick.Stop()
				b.ReportMetric(100*(<-used).Seconds()/seconds, "%core")
				r := s.Result().Files[0]
				b.ReportMetric(float64(r.Lines)/seconds, "lines/s")
				if r.Skipped > 0 || r.Lines != perSecond*seconds {
					b.Errorf("%+v", r)
				}
			}
		})
	}
}
