package pprof

import (
	"strings"

	"github.com/beamprof/beamprof/collector"
)

// Callers is how a profile shows the processes that wait for a sampled one.
type Callers uint8

// The ways to show them.
const (
	CallersFrames Callers = iota // their stacks go on below the sampled one
	CallersLabels                // the label callers: who asked <- who asked that one
	CallersNone                  // not at all, but for the label on_behalf_of
)

// onBehalfOf stands between a process's stack and that of the process that
// waits for it.
var onBehalfOf = &collector.Frame{Kind: collector.FrameMarker, Function: "[on behalf of]", Resolved: true}

// stitched returns a sample's stack, with those of its callers below if asked for.
func (b *Builder) stitched(s *collector.Sample) []*collector.Frame {
	if b.callers != CallersFrames || len(s.Callers) == 0 {
		return s.Stack
	}
	b.stack = append(b.stack[:0], s.Stack...)
	for i := range s.Callers {
		b.stack = append(b.stack, onBehalfOf)
		b.stack = append(b.stack, s.Callers[i].Stack...)
	}
	return b.stack
}

// chain returns the value of the label callers, if asked for.
func (b *Builder) chain(s *collector.Sample) string {
	if b.callers != CallersLabels || len(s.Callers) == 0 {
		return ""
	}
	kinds := make([]string, 0, 4)
	for i := range s.Callers {
		kind := s.Callers[i].Process.Kind
		if request := s.Callers[i].Request; request != "" {
			kind += " " + request
		}
		kinds = append(kinds, kind)
	}
	return strings.Join(kinds, " <- ")
}
