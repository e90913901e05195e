package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows on a terminal how far a recording is; elsewhere it does nothing.
type progress struct {
	samples atomic.Uint64 // to be set by who counts them
	stop    func()
}

const progressInterval = 200 * time.Millisecond

// startProgress shows progress, where the log goes, until stop is called,
// which leaves the line empty.
func startProgress(log *logger, duration time.Duration) *progress {
	p := &progress{stop: func() {}}
	if _, ok := terminal(log.out); !ok || log.lines {
		return p
	}
	bar := progressbar.NewOptions64(duration.Milliseconds(),
		progressbar.OptionSetWriter(log.out),
		progressbar.OptionSetWidth(30),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionThrottle(progressInterval/2), // or a tick draws twice
		progressbar.OptionUseANSICodes(colorAllowed()),
	)
	done := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() { p.show(bar, duration, done) })
	p.stop = sync.OnceFunc(func() {
		close(done)
		ended.Wait()
		bar.Clear()
	})
	return p
}

func (p *progress) show(bar *progressbar.ProgressBar, duration time.Duration, done <-chan struct{}) {
	start := time.Now()
	ticks := time.NewTicker(progressInterval)
	defer ticks.Stop()
	for {
		elapsed := time.Since(start)
		bar.Describe(fmt.Sprintf("%3.0f s of %.0f s, %d samples", elapsed.Seconds(), duration.Seconds(), p.samples.Load()))
		// A full bar would count as finished, and be cleared.
		bar.Set64(min(elapsed.Milliseconds(), duration.Milliseconds()-1))
		select {
		case <-done:
			return
		case <-ticks.C:
		}
	}
}
