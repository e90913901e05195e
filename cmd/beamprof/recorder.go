package main

import (
	"io"

	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/sampler"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/diagnosis"
	"github.com/beamprof/beamprof/profiles/summary"
	"github.com/beamprof/beamprof/profiles/window"
)

// recorder makes a recording's files of its samples.
type recorder struct {
	info    beam.Info
	cpu     *window.CPU
	ended   string // as in summary.Window
	failure error  // why the sampling ended early, if it failed

	distribution   *distributionRecorder // nil if the traffic with other nodes is not looked at
	noDistribution error                 // why not, if it should be
	connections    *connectionRecorder   // nil if connections are not looked at
	noConnections  error                 // why not, if they should be

	logs   *logRecorder // nil if the logs are not read
	noLogs error        // why not, if they should be
}

func newRecorder(info beam.Info, kernel string, o recordOptions, rules *attribution.Rules) *recorder {
	return &recorder{info: info, cpu: window.New(window.Options{
		Version: versionText(), Kernel: kernel, Info: info, Frequency: o.frequency, Rules: rules, Callers: o.callers,
	})}
}

// files returns what is to be written, and the summary to be shown.
func (r *recorder) files(stats sampler.Stats) ([]outputFile, *summary.Summary, error) {
	if r.distribution != nil {
		for peer, costs := range r.distribution.profile.Costs() {
			r.cpu.CountMessages(peer, costs)
		}
	}
	r.cpu.Close()
	condensed := r.cpu.Summary(stats, r.ended)
	condensed.Warnings = append(condensed.Warnings, r.warnings()...)
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
		if condensed.Connections != nil && r.distribution != nil {
			condensed.Connections.MarkDistribution(r.distribution.session.Stats().Ports)
		}
		further = append(further, files...)
	}
	if r.logs != nil {
		r.logs.condense(condensed)
	}
	condensed.Diagnosis = diagnosis.Of([]*summary.Summary{condensed}, r.cpu.Rules())
	cpu, err := r.cpu.Profile(stats)
	if err != nil {
		return nil, nil, err
	}
	files := append([]outputFile{{profileFile, cpu.Write}}, further...)
	return append(files, outputFile{summaryFile, func(w io.Writer) error { return condensed.Write(w) }}), condensed, nil
}

// warnings says what else happened that the numbers do not tell.
func (r *recorder) warnings() []string {
	var warnings []string
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
