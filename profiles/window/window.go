// Package window makes one window of a VM's samples into what is written of it:
// a profile and a summary. record has one window, the agent one after another.
package window

import (
	"fmt"

	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/sampler"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/pprof"
	"github.com/beamprof/beamprof/profiles/summary"
)

// Options say what is made of the samples.
type Options struct {
	Version   string // of beamprof
	Kernel    string // release
	Info      beam.Info
	Frequency int // Hz
	Rules     *attribution.Rules
	Callers   pprof.Callers
}

// CPU is a window of samples. It is not safe for concurrent use.
type CPU struct {
	options     Options
	samples     uint64
	attribution *attribution.Attributor
	profile     *pprof.Builder
	summary     *summary.Builder
}

// New returns an empty window.
func New(o Options) *CPU {
	c := &CPU{
		options: o,
		profile: pprof.NewBuilder(pprof.Options{Frequency: o.Frequency, Callers: o.Callers}),
		summary: summary.NewBuilder(summary.Options{Frequency: o.Frequency}),
	}
	c.attribution = attribution.New(o.Rules, 1_000_000_000/int64(o.Frequency), func(s *collector.Sample, part attribution.Part) {
		c.profile.Add(s, part)
		c.summary.Add(s, part)
	})
	return c
}

// Add counts a sample, which may be reused by the caller afterwards.
func (c *CPU) Add(s *collector.Sample) {
	c.samples++
	c.attribution.Add(s)
}

// Samples returns how many samples were added.
func (c *CPU) Samples() uint64 { return c.samples }

// Rules returns the rules that samples are attributed by.
func (c *CPU) Rules() *attribution.Rules { return c.options.Rules }

// AwaitMessages says that CountMessages will be called before the window ends.
func (c *CPU) AwaitMessages() { c.attribution.AwaitMessages() }

// CountMessages notes what the messages to and from another node cost, by
// workload and in any unit. The time of its connection is split by that.
func (c *CPU) CountMessages(peer string, costs map[string]float64) {
	for workload, cost := range costs {
		c.attribution.CountMessages(peer, workload, cost)
	}
}

// Close ends the window: what waited for others' samples is attributed.
func (c *CPU) Close() { c.attribution.Close() }

// Profile returns the window's profile. Call Close before.
func (c *CPU) Profile(stats sampler.Stats) (*profile.Profile, error) {
	o := c.options
	return c.profile.Profile(pprof.Info{
		Version: o.Version, PID: o.Info.PID, Node: o.Info.NodeName(),
		Release: o.Info.Release, ERTS: o.Info.ERTS, Flavor: o.Info.Flavor, Kernel: o.Kernel,
		Executable: o.Info.Executable, Start: stats.Start, Duration: stats.Duration,
		Lost: stats.Lost + stats.Malformed, Truncated: stats.Truncated, Partial: stats.Partial, UnsymbolizedFrames: stats.UnsymbolizedFrames,
		Weights: stats.Weights(),
	})
}

// Summary returns the window's numbers. ended is one of summary.Window. Call
// Close before.
func (c *CPU) Summary(stats sampler.Stats, ended string) *summary.Summary {
	o := c.options
	return c.summary.Summary(summary.Info{
		Target: summary.Target{
			PID: o.Info.PID, Node: o.Info.NodeName(), OTPRelease: o.Info.Release, ERTS: o.Info.ERTS, Flavor: o.Info.Flavor,
			Schedulers: o.Info.NormalSchedulers, BusyWait: o.Info.BusyWait, Kernel: o.Kernel,
		},
		Window: summary.Window{Start: stats.Start.UTC(), Duration: stats.Duration.Seconds(), Ended: ended},
		CPU: summary.CPU{
			ProcessSeconds: stats.ProcessSeconds, Lost: stats.Lost + stats.Malformed, Truncated: stats.Truncated, Partial: stats.Partial,
			WithoutStack: c.profile.WithoutStack(), UnsymbolizedFrames: stats.UnsymbolizedFrames,
		},
		Rules:    o.Rules.Name,
		Causes:   o.Rules.Causes,
		Warnings: warnings(stats),
		Weights:  stats.Weights(),
	})
}

// warnings says what happened to the samples that the numbers do not tell.
func warnings(stats sampler.Stats) []string {
	var warnings []string
	if stats.KernelNames != nil {
		warnings = append(warnings, "kernel functions have no names: "+stats.KernelNames.Error())
	}
	if stats.Malformed > 0 {
		warnings = append(warnings, fmt.Sprintf("%d of the lost samples arrived but could not be read", stats.Malformed))
	}
	if stats.CodeErrors > 0 {
		warnings = append(warnings, fmt.Sprintf("the VM's list of code could not be read %d times: functions loaded meanwhile may have no names", stats.CodeErrors))
	}
	return warnings
}
