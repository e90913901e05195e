package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/beamprof/beamprof/collector/logs"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/summary"
	"github.com/beamprof/beamprof/profiles/text"
	"github.com/beamprof/beamprof/profiles/window"
)

// logRecorder follows the VM's logs beside the samples.
type logRecorder struct {
	session logSession
	rules   *attribution.Rules
	stop    context.CancelFunc
	done    chan struct{}
}

// recordLogs begins to follow.
func recordLogs(ctx context.Context, s logSession, rules *attribution.Rules) *logRecorder {
	ctx, stop := context.WithCancel(ctx)
	l := &logRecorder{session: s, rules: rules, stop: stop, done: make(chan struct{})}
	go func() {
		s.Run(ctx)
		close(l.done)
	}()
	return l
}

// end stops following. It may be called more than once.
func (l *logRecorder) end() {
	l.stop()
	<-l.done
}

// condense puts what was found into the summary.
func (l *logRecorder) condense(s *summary.Summary) {
	result := l.session.Result()
	s.Logs = []summary.Log{}
	for _, f := range result.Files {
		s.LogFiles = append(s.LogFiles, summary.LogFile{Path: text.Clean(f.Path), Lines: f.Lines, Bytes: f.Bytes, Skipped: f.Skipped})
		if f.Skipped > 0 {
			s.Warnings = append(s.Warnings, fmt.Sprintf("%s was written faster than it was read: %d bytes were not looked at", f.Path, f.Skipped))
		}
		if f.Unreadable != nil {
			s.Warnings = append(s.Warnings, fmt.Sprintf("the log was not read to the end: %v", f.Unreadable))
		}
	}
	for _, signal := range l.rules.Signals {
		for _, c := range result.Counts {
			if c.Signal.Name == signal.Name {
				s.Logs = append(s.Logs, window.Log(c, signal.About, s.Window.Duration))
			}
		}
	}
}

// startLogs follows the logs if the rules look for anything in them. A log that
// the user named must be there; that none is found is no more than a warning.
func (r *recorder) startLogs(ctx context.Context, t target, files []string, rules *attribution.Rules) error {
	switch {
	case len(rules.Signals) > 0:
	case len(files) > 0:
		return usagef("--log: the rules %s look for nothing in logs", text.Clean(rules.Name))
	default:
		return nil
	}
	s, err := t.OpenLogs(logs.Options{PID: t.Info().PID, Files: files, Signals: window.Signals(rules)})
	switch {
	case err == nil:
		r.logs = recordLogs(ctx, s, rules)
	case len(files) > 0:
		return &codeError{exitUsage, fmt.Errorf("--log: %w", err)}
	default:
		r.noLogs = err
	}
	return nil
}

// logWarning says why no log was read.
func logWarning(err error) string {
	if errors.Is(err, logs.ErrNoLog) {
		return text.Clean(err.Error())
	}
	return "the log was not read: " + err.Error()
}
