// Package limits makes profiles small and plain enough for the servers that
// take them, without losing a nanosecond of what they count: what there is too
// much of is folded into coarser stacks and fewer labels, the smallest first.
package limits

import (
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/profiles/text"
)

// Limits bound a profile.
type Limits struct {
	Samples   int // different stacks with their labels
	Bytes     int // uncompressed
	Depth     int // frames of a stack
	LabelSets int // different sets of labels: each becomes a series in Pyroscope
	Name      int // bytes of a name or a label's value
}

// Servers are limits that the servers in docs/internals.md keep by default:
// those of Pyroscope, the strictest, with room for what a protocol adds.
var Servers = Limits{Samples: 16_000, Bytes: 4<<20 - 64<<10, Depth: 1000, LabelSets: 1000, Name: 1024}

// None limits nothing: Apply only takes labels away.
var None = Limits{Samples: math.MaxInt, Bytes: math.MaxInt, Depth: math.MaxInt, LabelSets: math.MaxInt, Name: math.MaxInt}

// Report says what a profile lost.
type Report struct {
	Folded int // different stacks that became coarser or lost labels, so that there are not too many
	Cut    int // different stacks that were too deep and lost frames of their middle
	Labels int // labels there was no room for, beside those of the series
}

// Frames that stand for what was left out.
const (
	FoldedFrame = "[folded: too many different stacks]"
	CutFrame    = "[frames left out: the stack is too deep]"
)

// Apply changes a profile so that it is within the limits. Only the labels that
// are allowed stay; they are given by their importance, and the last go first.
// Sums of all values stay what they were, over all and for each first label,
// unless that alone takes too many values.
func (l Limits) Apply(p *profile.Profile, allowed []string) (Report, error) {
	l.clean(p)
	f := newFolder(p, allowed)
	report := Report{Cut: f.cut(l.Depth)}
	total, comments := len(f.rows), len(p.Comments)
	f.foldLabels(l.LabelSets)
	f.foldStacks(l.Samples)
	for {
		f.write()
		if f.folded > 0 {
			p.Comments = append(p.Comments[:comments], fmt.Sprintf("folded: %d of %d different stacks became coarser, to stay within what servers accept", f.folded, total))
		}
		size, err := size(p)
		if err != nil {
			return report, fmt.Errorf("encode the profile: %w", err)
		}
		if size <= l.Bytes {
			break
		}
		if len(f.rows) <= 1 {
			return report, fmt.Errorf("the profile without its samples takes more than %d bytes", l.Bytes)
		}
		// What is left out shrinks the tables of names, too: by how much is not known before.
		f.foldLabels(max(1, len(f.sets())/2))
		f.foldStacks(min(len(f.rows)*3/4, int(float64(len(f.rows))*float64(l.Bytes)/float64(size))))
	}
	report.Folded = f.folded
	return report, p.CheckValid()
}

// clean makes all text valid and short, and names of types plain.
func (l Limits) clean(p *profile.Profile) {
	name := func(s string) string { return Short(text.Clean(s), l.Name) }
	for _, t := range append([]*profile.ValueType{p.PeriodType}, p.SampleType...) {
		if t != nil {
			t.Type, t.Unit = strings.ReplaceAll(name(t.Type), "-", "_"), name(t.Unit)
		}
	}
	p.DefaultSampleType = strings.ReplaceAll(name(p.DefaultSampleType), "-", "_")
	for _, f := range p.Function {
		f.Name, f.SystemName, f.Filename = name(f.Name), name(f.SystemName), name(f.Filename)
	}
	for _, m := range p.Mapping {
		m.File, m.BuildID, m.KernelRelocationSymbol = name(m.File), name(m.BuildID), name(m.KernelRelocationSymbol)
	}
	p.Comments = p.Comments[:min(len(p.Comments), 64)]
	for i := range p.Comments {
		p.Comments[i] = name(p.Comments[i])
	}
	p.DocURL, p.DropFrames, p.KeepFrames = "", name(p.DropFrames), name(p.KeepFrames)
	for _, s := range p.Sample {
		for key, values := range s.Label {
			for i := range values {
				values[i] = name(values[i])
			}
			s.Label[key] = values
		}
	}
}

// Short cuts valid text to so many bytes at most.
func Short(s string, size int) string {
	if len(s) <= size {
		return s
	}
	for size > 0 && !utf8.RuneStart(s[size]) {
		size--
	}
	return s[:size]
}

type counter int

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

func size(p *profile.Profile) (int, error) {
	var n counter
	err := p.WriteUncompressed(io.Writer(&n))
	return int(n), err
}
