package main

import (
	"fmt"
	"io"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/sampler"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/diagnosis"
	"github.com/beamprof/beamprof/profiles/pprof"
	"github.com/beamprof/beamprof/profiles/summary"
)

// recorder makes a recording's files of its samples.
type recorder struct {
	info        beam.Info
	samples     uint64 // handled
	attribution *attribution.Attributor
	kernel      string
	profile     *pprof.Builder
	summary     *summary.Builder
	ended       string // as in summary.Window
	failure     error  // why the sampling ended early, if it failed

	distribution   *distributionRecorder // nil if the traffic with other nodes is not looked at
	noDistribution error                 // why not, if it should be
	connections    *connectionRecorder   // nil if connections are not looked at
	noConnections  error                 // why not, if they should be

	logs   *logRecorder // nil if the logs are not read
	noLogs error        // why not, if they should be
}

func newRecorder(info beam.Info, kernel string, o recordOptions, rules *attribution.Rules) *recorder {
	r := &recorder{
		info:    info,
		kernel:  kernel,
		profile: pprof.NewBuilder(pprof.Options{Frequency: o.frequency, Callers: o.callers}),
		summary: summary.NewBuilder(summary.Options{Frequency: o.frequency}),
	}
	r.attribution = attribution.New(rules, 1_000_000_000/int64(o.frequency), func(s *collector.Sample, part attribution.Part) {
		r.profile.Add(s, part)
		r.summary.Add(s, part)
	})
	return r
}

func (r *recorder) add(s *collector.Sample) {
	r.samples++
	r.attribution.Add(s)
}

// files returns what is to be written, and the summary to be shown.
func (r *recorder) files(stats sampler.Stats) ([]outputFile, *summary.Summary, error) {
	r.attribution.Close()
	condensed := r.condense(stats)
	var further []outputFile
	if r.distribution != nil {
		var err error
		if condensed.Distribution, further, err = r.distribution.condense(r.info.PID, nodeName(r.info)); err != nil {
			condensed.Warnings = append(condensed.Warnings, "the traffic with other nodes is missing: "+err.Error())
		}
	}
	if r.connections != nil {
		var files []outputFile
		var err error
		if condensed.Connections, files, err = r.connections.condense(r.info.PID, nodeName(r.info)); err != nil {
			condensed.Warnings = append(condensed.Warnings, "the connections are missing: "+err.Error())
		}
		further = append(further, files...)
	}
	if r.logs != nil {
		r.logs.condense(condensed)
	}
	condensed.Diagnosis = diagnosis.Of([]*summary.Summary{condensed}, r.attribution.Rules())
	cpu, err := r.profile.Profile(pprof.Info{
		Version: versionText(), PID: r.info.PID, Node: nodeName(r.info),
		Release: r.info.Release, ERTS: r.info.ERTS, Flavor: r.info.Flavor, Kernel: r.kernel,
		Executable: r.info.Executable, Start: stats.Start, Duration: stats.Duration,
		Lost: stats.Lost + stats.Malformed, Truncated: stats.Truncated, Partial: stats.Partial, UnsymbolizedFrames: stats.UnsymbolizedFrames,
		Weights: stats.Weights(),
	})
	if err != nil {
		return nil, nil, err
	}
	files := append([]outputFile{{profileFile, cpu.Write}}, further...)
	return append(files, outputFile{summaryFile, func(w io.Writer) error { return condensed.Write(w) }}), condensed, nil
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
		Rules:    r.attribution.Rules().Name,
		Warnings: r.warnings(stats),
		Weights:  stats.Weights(),
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
	if r.noDistribution != nil {
		warnings = append(warnings, "the traffic with other nodes was not counted: "+r.noDistribution.Error())
	}
	if r.distribution != nil {
		warnings = append(warnings, r.distribution.warnings()...)
	}
	if r.noLogs != nil {
		warnings = append(warnings, logWarning(r.noLogs))
	}
	if r.noConnections != nil {
		warnings = append(warnings, "connections were not counted: "+r.noConnections.Error())
	}
	if r.connections != nil {
		warnings = append(warnings, r.connections.warnings()...)
	}
	if r.failure != nil {
		warnings = append(warnings, "the sampling ended early: "+r.failure.Error())
	}
	return warnings
}
