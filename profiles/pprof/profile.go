package pprof

import (
	"fmt"
	"math"
	"path"
	"time"

	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/profiles/text"
)

// Info is what a profile says about itself.
type Info struct {
	Version               string // of beamprof
	PID                   int
	Node                  string // Erlang node name, empty if not distributed
	Release, ERTS, Flavor string // "25", "13.1.5", "jit"
	Kernel                string // release of the running kernel
	Executable            string // the VM's executable, as the target sees it
	Start                 time.Time
	Duration              time.Duration
	Lost                  uint64 // samples the kernel took and the recorder did not get
	Truncated             uint64 // samples with missing frames
	Partial               uint64 // samples whose native part was not unwound to its end
	UnsymbolizedFrames    uint64 // frames without a name, over all samples

	// What the CPU time of samples is multiplied with, by label `thread`; 1 for
	// those it does not have. Counts of samples stay as they are.
	Weights map[string]float64
}

// Profile returns what was counted so far, in the order it was first seen, so
// that equal input gives equal output. Samples with equal labels share their
// label maps, and samples with equal stacks their locations: copy before
// changing one. The result has passed CheckValid.
func (b *Builder) Profile(info Info) (*profile.Profile, error) {
	p := &profile.Profile{
		SampleType: []*profile.ValueType{
			{Type: "samples", Unit: "count"},
			{Type: "cpu", Unit: "nanoseconds"},
		},
		DefaultSampleType: "cpu",
		PeriodType:        &profile.ValueType{Type: "cpu", Unit: "nanoseconds"},
		Period:            b.period,
		TimeNanos:         info.Start.UnixNano(),
		DurationNanos:     info.Duration.Nanoseconds(),
		Comments:          b.comments(info),
	}
	code := newCode(p, b.frames.frames, info.Executable)
	labels := make([]labelSet, len(b.labels.keys))
	for i, key := range b.labels.keys {
		labels[i].weight = weightOf(info.Weights, key.threadLabel())
		labels[i].strings = key.strings()
		labels[i].numbers, labels[i].units = key.numbers()
	}
	stacks := make([][]*profile.Location, len(b.stacks.stacks))
	for i := range stacks {
		stacks[i] = code.stack(b.stacks.frames(uint32(i)))
	}
	p.Sample = make([]*profile.Sample, len(b.counts))
	samples := make([]profile.Sample, len(b.counts))
	for i, c := range b.counts {
		set := labels[c.labels]
		samples[i] = profile.Sample{
			Location: stacks[c.stack],
			Value:    []int64{c.samples, int64(math.Round(float64(c.nanoseconds) * set.weight))},
			Label:    set.strings,
			NumLabel: set.numbers,
			NumUnit:  set.units,
		}
		p.Sample[i] = &samples[i]
	}
	if err := p.CheckValid(); err != nil {
		return nil, fmt.Errorf("check the profile that was built: %w", err)
	}
	return p, nil
}

type labelSet struct {
	strings map[string][]string
	numbers map[string][]int64
	units   map[string][]string
	weight  float64
}

func weightOf(weights map[string]float64, thread string) float64 {
	if weight, ok := weights[thread]; ok {
		return weight
	}
	return 1
}

func (b *Builder) comments(info Info) []string {
	node := text.Clean(info.Node)
	if node == "" {
		node = "not distributed"
	}
	comments := []string{
		fmt.Sprintf("node: %s (pid %d)", node, info.PID),
		fmt.Sprintf("versions: OTP %s, erts %s (%s), Linux %s, beamprof %s",
			text.Clean(info.Release), text.Clean(info.ERTS), text.Clean(info.Flavor), text.Clean(info.Kernel), info.Version),
		fmt.Sprintf("frequency: %d Hz", b.frequency),
		fmt.Sprintf("samples: %d, lost: %d, truncated: %d, partly unwound: %d", b.samples, info.Lost, info.Truncated, info.Partial),
		fmt.Sprintf("frames without a name (C code of stripped files): %d", info.UnsymbolizedFrames),
	}
	if info.Weights != nil {
		comments = append(comments, "cpu: as the kernel counted it for each kind of thread; samples x period is what was sampled")
	}
	if b.dropped > 0 {
		comments = append(comments, fmt.Sprintf("samples without a stack: %d (more than %d different stacks)", b.dropped, b.maxStacks))
	}
	return comments
}

// code turns frames into the profile's mappings, functions and locations.
type code struct {
	profile   *profile.Profile
	locations []*profile.Location
	mappings  map[collector.Mapping]*profile.Mapping
	functions map[functionKey]*profile.Function
}

type functionKey struct{ name, system, file string }

// newCode fills the profile's tables with all frames; ids are those of the frames, plus 1.
func newCode(p *profile.Profile, frames []*collector.Frame, executable string) *code {
	c := &code{
		profile:   p,
		mappings:  make(map[collector.Mapping]*profile.Mapping),
		functions: make(map[functionKey]*profile.Function),
	}
	c.addMappings(frames, executable)
	c.locations = make([]*profile.Location, len(frames))
	for i, frame := range frames {
		c.locations[i] = c.location(uint64(i)+1, frame)
	}
	p.Location = c.locations
	return c
}

func (c *code) stack(ids []uint32) []*profile.Location {
	locations := make([]*profile.Location, len(ids))
	for i, id := range ids {
		locations[i] = c.locations[id]
	}
	return locations
}

func (c *code) location(id uint64, frame *collector.Frame) *profile.Location {
	l := &profile.Location{
		ID:      id,
		Address: frame.Address,
		Line:    []profile.Line{{Function: c.function(frame), Line: int64(max(frame.Line, 0))}},
	}
	if frame.Kind != collector.FrameMarker {
		l.Mapping = c.mappings[mappingOf(frame)]
	}
	return l
}

func (c *code) function(frame *collector.Frame) *profile.Function {
	key := functionKey{name: text.Clean(frame.Function), file: text.Clean(frame.File)}
	if key.name == "" {
		key.name = fmt.Sprintf("[no name] 0x%x", frame.Address)
	}
	if frame.Kind == collector.FrameNative {
		// pprof demangles C++ names where the system's name is the shown one.
		// It also takes < and > of other names for C++, so those have none.
		key.system = key.name
	}
	f, ok := c.functions[key]
	if !ok {
		f = &profile.Function{ID: uint64(len(c.profile.Function)) + 1, Name: key.name, SystemName: key.system, Filename: key.file}
		c.functions[key] = f
		c.profile.Function = append(c.profile.Function, f)
	}
	return f
}

// addMappings adds the mappings of all frames, the executable's first: pprof
// shows the first as the profile's binary.
func (c *code) addMappings(frames []*collector.Frame, executable string) {
	var order []collector.Mapping
	for _, frame := range frames {
		if frame.Kind == collector.FrameMarker {
			continue
		}
		m := mappingOf(frame)
		if _, ok := c.mappings[m]; !ok {
			c.mappings[m] = nil
			order = append(order, m)
		}
	}
	for _, first := range []bool{true, false} {
		for _, m := range order {
			if isExecutable(m.File, executable) == first {
				c.addMapping(m)
			}
		}
	}
}

func (c *code) addMapping(m collector.Mapping) {
	pm := &profile.Mapping{
		ID:      uint64(len(c.profile.Mapping)) + 1,
		Start:   m.Start,
		Limit:   m.Limit,
		Offset:  m.Offset,
		File:    text.Clean(m.File),
		BuildID: m.BuildID,
		// All that can be known of the names is known: pprof need not look for files.
		HasFunctions:    true,
		HasFilenames:    true,
		HasLineNumbers:  true,
		HasInlineFrames: true,
	}
	c.mappings[m] = pm
	c.profile.Mapping = append(c.profile.Mapping, pm)
}

// mappingOf returns the frame's mapping, or the one that all frames of its kind share.
func mappingOf(frame *collector.Frame) collector.Mapping {
	if frame.Mapping != nil {
		return *frame.Mapping
	}
	switch frame.Kind {
	case collector.FrameKernel:
		return collector.Mapping{File: "[kernel.kallsyms]"}
	case collector.FrameErlang:
		return collector.Mapping{File: "[beam jit]"}
	}
	return collector.Mapping{File: "[unknown]"}
}

func isExecutable(file, executable string) bool {
	if executable != "" {
		return file == executable
	}
	return path.Base(file) == "beam.smp"
}
