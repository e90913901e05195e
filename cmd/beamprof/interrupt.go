package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// errInterrupted is the cause of a context that a signal ended.
var errInterrupted = errors.New("interrupted")

// oneInterrupt is how long signals count as one: who interrupts a whole process
// group (timeout(1) does) may reach us twice, while nobody presses twice so fast.
const oneInterrupt = 250 * time.Millisecond

// interruptible returns a context that ends with errInterrupted at the first
// signal asking the program to end: Ctrl-C, SIGTERM, or a terminal that went
// away. One that comes later than window after it calls abort. stop gives the
// signals their usual effect back.
func interruptible(ctx context.Context, window time.Duration, abort func()) (_ context.Context, stop func()) {
	return interruptedBy(ctx, window, abort, append(stopSignals, unix.SIGHUP)...)
}

// stopSignals ask every program to end.
var stopSignals = []os.Signal{unix.SIGINT, unix.SIGTERM}

// interruptedBy is interruptible by the signals given.
func interruptedBy(ctx context.Context, window time.Duration, abort func(), by ...os.Signal) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, by...)
	done := make(chan struct{})
	go func() {
		var first time.Time
		for {
			select {
			case <-done:
				return
			case <-signals:
			}
			switch {
			case first.IsZero():
				first = time.Now()
				cancel(errInterrupted)
			case time.Since(first) > window:
				abort()
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}
