// Package otlp writes pprof profiles as OpenTelemetry's protocol has them, in
// the version v1development of its profiles signal (opentelemetry-proto 1.10 and
// 1.11, which do not differ on the wire).
package otlp

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
	collector "go.opentelemetry.io/proto/otlp/collector/profiles/v1development"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	profiles "go.opentelemetry.io/proto/otlp/profiles/v1development"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
)

// Options say what is not in the profile.
type Options struct {
	ID       [16]byte          // of the profile
	Resource map[string]string // attributes of what was profiled
	Scope    string            // instrumentation scope
	Version  string            // of beamprof
}

// Names of OpenTelemetry's semantic conventions.
const (
	frameType      = "profile.frame.type"
	buildID        = "process.executable.build_id.gnu"
	profileComment = "pprof.profile.comment"
)

// Request returns a profile that has passed CheckValid as a request to export
// it. A profile has one sample type in OTLP, so the request has a profile for
// each; but of CPU profiles only samples/count, which receivers multiply by the
// period: they would count time twice otherwise. Samples of value 0 are left out.
func Request(p *profile.Profile, o Options) *collector.ExportProfilesServiceRequest {
	w := newWriter(p)
	var made []*profiles.Profile
	for _, column := range columns(p) {
		id := o.ID
		id[15] ^= byte(column)
		made = append(made, w.profile(column, id))
	}
	var attributes []*common.KeyValue
	for _, name := range slices.Sorted(maps.Keys(o.Resource)) {
		attributes = append(attributes, &common.KeyValue{Key: name, Value: text(o.Resource[name])})
	}
	return &collector.ExportProfilesServiceRequest{
		ResourceProfiles: []*profiles.ResourceProfiles{{
			Resource: &resource.Resource{Attributes: attributes},
			ScopeProfiles: []*profiles.ScopeProfiles{{
				Scope:    &common.InstrumentationScope{Name: o.Scope, Version: o.Version},
				Profiles: made,
			}},
		}},
		Dictionary: w.dictionary,
	}
}

// columns are the sample types to write.
func columns(p *profile.Profile) []int {
	var all []int
	for i, t := range p.SampleType {
		if p.PeriodType != nil && p.PeriodType.Type == "cpu" && p.PeriodType.Unit == "nanoseconds" && t.Type == "samples" && t.Unit == "count" {
			return []int{i}
		}
		all = append(all, i)
	}
	return all
}

// writer fills the dictionary. Element 0 of each table stands for none.
type writer struct {
	source     *profile.Profile
	dictionary *profiles.ProfilesDictionary
	strings    map[string]int32
	attributes map[attribute]int32
	mappings   map[*profile.Mapping]int32
	functions  map[*profile.Function]int32
	locations  map[*profile.Location]int32
	stacks     map[string]int32 // by the numbers of the locations
	key        []byte           // scratch
}

func newWriter(p *profile.Profile) *writer {
	return &writer{
		source: p,
		dictionary: &profiles.ProfilesDictionary{
			MappingTable:   []*profiles.Mapping{{}},
			LocationTable:  []*profiles.Location{{}},
			FunctionTable:  []*profiles.Function{{}},
			LinkTable:      []*profiles.Link{{TraceId: make([]byte, 16), SpanId: make([]byte, 8)}},
			StringTable:    []string{""},
			AttributeTable: []*profiles.KeyValueAndUnit{{}},
			StackTable:     []*profiles.Stack{{}},
		},
		strings:    map[string]int32{"": 0},
		attributes: map[attribute]int32{},
		mappings:   map[*profile.Mapping]int32{nil: 0},
		functions:  map[*profile.Function]int32{nil: 0},
		locations:  map[*profile.Location]int32{},
		stacks:     map[string]int32{"": 0},
	}
}

func (w *writer) profile(column int, id [16]byte) *profiles.Profile {
	p := &profiles.Profile{
		SampleType:   w.valueType(w.source.SampleType[column]),
		TimeUnixNano: uint64(max(w.source.TimeNanos, 0)),
		DurationNano: uint64(max(w.source.DurationNanos, 0)),
		Period:       w.source.Period,
		ProfileId:    id[:],
	}
	if w.source.PeriodType != nil {
		p.PeriodType = w.valueType(w.source.PeriodType)
	}
	if len(w.source.Comments) > 0 {
		p.AttributeIndices = []int32{w.attribute(attribute{key: profileComment, list: join(w.source.Comments)}, func() *common.AnyValue { return texts(w.source.Comments) })}
	}
	for _, s := range w.source.Sample {
		if s.Value[column] != 0 {
			p.Samples = append(p.Samples, &profiles.Sample{
				StackIndex: w.stack(s.Location), AttributeIndices: w.labels(s), Values: []int64{s.Value[column]},
			})
		}
	}
	return p
}

func (w *writer) text(s string) int32 {
	n, ok := w.strings[s]
	if !ok {
		n = int32(len(w.dictionary.StringTable))
		w.strings[s] = n
		w.dictionary.StringTable = append(w.dictionary.StringTable, s)
	}
	return n
}

func (w *writer) valueType(t *profile.ValueType) *profiles.ValueType {
	return &profiles.ValueType{TypeStrindex: w.text(t.Type), UnitStrindex: w.text(t.Unit)}
}

// stack returns the number of a stack; both formats have the leaf first.
func (w *writer) stack(frames []*profile.Location) int32 {
	w.key = w.key[:0]
	numbers := make([]int32, len(frames))
	for i, l := range frames {
		numbers[i] = w.location(l)
		w.key = binary.AppendUvarint(w.key, uint64(numbers[i]))
	}
	n, ok := w.stacks[string(w.key)]
	if !ok {
		n = int32(len(w.dictionary.StackTable))
		w.stacks[string(w.key)] = n
		w.dictionary.StackTable = append(w.dictionary.StackTable, &profiles.Stack{LocationIndices: numbers})
	}
	return n
}

func (w *writer) location(l *profile.Location) int32 {
	n, ok := w.locations[l]
	if ok {
		return n
	}
	made := &profiles.Location{MappingIndex: w.mapping(l.Mapping), Address: l.Address}
	for _, line := range l.Line {
		made.Lines = append(made.Lines, &profiles.Line{FunctionIndex: w.function(line.Function), Line: line.Line, Column: line.Column})
	}
	if kind := kind(l.Mapping); kind != "" {
		made.AttributeIndices = []int32{w.textAttribute(frameType, kind)}
	}
	n = int32(len(w.dictionary.LocationTable))
	w.locations[l] = n
	w.dictionary.LocationTable = append(w.dictionary.LocationTable, made)
	return n
}

// kind is the type of the frames of a mapping as profiles/pprof names mappings.
func kind(m *profile.Mapping) string {
	switch {
	case m == nil:
		return "" // a marker
	case m.File == "[beam jit]":
		return "beam"
	case strings.HasPrefix(m.File, "[kernel"):
		return "kernel"
	}
	return "native"
}

func (w *writer) mapping(m *profile.Mapping) int32 {
	n, ok := w.mappings[m]
	if !ok {
		made := &profiles.Mapping{MemoryStart: m.Start, MemoryLimit: m.Limit, FileOffset: m.Offset, FilenameStrindex: w.text(m.File)}
		if m.BuildID != "" {
			made.AttributeIndices = []int32{w.textAttribute(buildID, m.BuildID)}
		}
		n = int32(len(w.dictionary.MappingTable))
		w.mappings[m] = n
		w.dictionary.MappingTable = append(w.dictionary.MappingTable, made)
	}
	return n
}

func (w *writer) function(f *profile.Function) int32 {
	n, ok := w.functions[f]
	if !ok {
		n = int32(len(w.dictionary.FunctionTable))
		w.functions[f] = n
		w.dictionary.FunctionTable = append(w.dictionary.FunctionTable, &profiles.Function{
			NameStrindex: w.text(f.Name), SystemNameStrindex: w.text(f.SystemName), FilenameStrindex: w.text(f.Filename), StartLine: f.StartLine,
		})
	}
	return n
}
