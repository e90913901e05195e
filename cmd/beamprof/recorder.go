package main

import (
	"fmt"
	"io"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/sampler"
	"github.com/beamprof/beamprof/profiles/pprof"
	"github.com/beamprof/beamprof/profiles/summary"
)

// recorder makes a recording's files of its samples.
type recorder struct {
	info    beam.Info
	kernel  string
	profile *pprof.Builder
	summary *summary.Builder
	ended   string // as in summary.Window
	failure error  // why the sampling ended early, if it failed
}

func newRecorder(info beam.Info, kernel string, frequency int) *recorder {
	return &recorder{
		info:    info,
		kernel:  kernel,
		profile: pprof.NewBuilder(pprof.Options{Frequency: frequency}),
		summary: summary.NewBuilder(summary.Options{Frequency: frequency}),
	}
}

func (r *recorder) add(s *collector.Sample) {
	r.profile.Add(s)
	r.summary.Add(s)
}

// files returns what is to be written, and the summary to be shown.
func (r *recorder) files(stats sampler.Stats) ([]outputFile, *summary.Summary, error) {
	condensed := r.condense(stats)
	cpu, err := r.profile.Profile(pprof.Info{
		Version: versionText(), PID: r.info.PID, Node: nodeName(r.info),
		Release: r.info.Release, ERTS: r.info.ERTS, Flavor: r.info.Flavor, Kernel: r.kernel,
		Executable: r.info.Executable, Start: stats.Start, Duration: stats.Duration,
		Lost: stats.Lost + stats.Malformed, Truncated: stats.Truncated, Partial: stats.Partial, UnsymbolizedFrames: stats.UnsymbolizedFrames,
	})
	if err != nil {
		return nil, nil, err
	}
	return []outputFile{{profileFile, cpu.Write}, {summaryFile, func(w io.Writer) error { return condensed.Write(w) }}}, condensed, nil
}

func (r *recorder) condense(stats sampler.Stats) *summary.Summary {
	return r.summary.Summary(summary.Info{
		Target: summary.Target{
			PID: r.info.PID, Node: nodeName(r.info), OTPRelease: r.info.Release, ERTS: r.info.ERTS, Flavor: r.info.Flavor,
			Schedulers: r.info.NormalSchedulers, Kernel: r.kernel,
		},
		Window: summary.Window{Start: stats.Start.UTC(), Duration: stats.Duration.Seconds(), Ended: r.ended},
		CPU: summary.CPU{
			ProcessSeconds: stats.ProcessSeconds, Lost: stats.Lost + stats.Malformed, Truncated: stats.Truncated, Partial: stats.Partial,
			WithoutStack: r.profile.WithoutStack(), UnsymbolizedFrames: stats.UnsymbolizedFrames,
		},
		Warnings: r.warnings(stats),
	})
}

// warnings says what else happened that the numbers do not tell.
func (r *recorder) warnings(stats sampler.Stats) []string {
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
	if r.failure != nil {
		warnings = append(warnings, "the sampling ended early: "+r.failure.Error())
	}
	return warnings
}
