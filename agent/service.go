package agent

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Serve runs an agent with the configuration in a file until ctx is done, as a
// service manager expects it: it tells when it is ready, reads the file again at
// SIGHUP, and gives signs of life while it is healthy.
func Serve(ctx context.Context, path string, options Options) error {
	config, err := Load(path)
	if err != nil {
		return err
	}
	// It needs a small part of one CPU; with more of them, each timer wakes threads
	// that look for work.
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
	if err := dropPrivileges(); err != nil {
		options.Log.Warn().Err(err).Msg("privileges that are not needed are kept")
	}
	a, err := New(config, options)
	if err != nil {
		return err
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, unix.SIGHUP)
	defer signal.Stop(hangups)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return a.Run(ctx, func() { go a.serve(ctx, path, hangups) })
}

func (a *Agent) serve(ctx context.Context, path string, hangups <-chan os.Signal) {
	tell(daemon.SdNotifyReady)
	var signs <-chan time.Time // of life
	if interval, err := daemon.SdWatchdogEnabled(false); err == nil && interval > 0 {
		ticks := time.NewTicker(interval / 3)
		defer ticks.Stop()
		signs = ticks.C
	}
	for {
		select {
		case <-ctx.Done():
			tell(daemon.SdNotifyStopping)
			return
		case <-signs:
			if a.Healthy() == nil {
				tell(daemon.SdNotifyWatchdog)
			}
		case <-hangups:
			a.reloadFrom(path)
		}
	}
}

func (a *Agent) reloadFrom(path string) {
	tell(daemon.SdNotifyReloading + "\n" + fmt.Sprintf("MONOTONIC_USEC=%d", monotonic()))
	config, err := Load(path)
	if err == nil {
		err = a.Reload(config)
	}
	if err != nil {
		a.metrics.reloads.WithLabelValues("failed").Inc()
		a.options.Log.Error().Err(err).Msg("the configuration was not taken: all goes on as before")
	} else {
		a.metrics.reloads.WithLabelValues("ok").Inc()
		a.options.Log.Info().Msg("the configuration was read again")
	}
	tell(daemon.SdNotifyReady)
}

// tell tells the service manager, if there is one.
func tell(state string) { _, _ = daemon.SdNotify(false, state) }

// monotonic is CLOCK_MONOTONIC in microseconds.
func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail
	return t.Nano() / 1000
}
