// Package otlptest reads profiles of OTLP back, for tests that compare them with
// the pprof profiles they were made of.
package otlptest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	profiles "go.opentelemetry.io/proto/otlp/profiles/v1development"
)

// Sums are the values of a profile, by stack and labels in plain text.
type Sums map[string]int64

// OfPprof reads a column of a pprof profile.
func OfPprof(p *profile.Profile, column int) Sums {
	all := Sums{}
	for _, s := range p.Sample {
		if s.Value[column] == 0 {
			continue
		}
		var b strings.Builder
		for _, l := range s.Location {
			m := l.Mapping
			if m == nil {
				m = &profile.Mapping{}
			}
			fmt.Fprintf(&b, "%x %s %x-%x+%x %s", l.Address, m.File, m.Start, m.Limit, m.Offset, m.BuildID)
			for _, line := range l.Line {
				f := line.Function
				fmt.Fprintf(&b, " [%s %s %s:%d %d:%d]", f.Name, f.SystemName, f.Filename, f.StartLine, line.Line, line.Column)
			}
			b.WriteString("\n")
		}
		for _, name := range slices.Sorted(maps.Keys(s.Label)) {
			fmt.Fprintf(&b, "%s=%q\n", name, s.Label[name])
		}
		for _, name := range slices.Sorted(maps.Keys(s.NumLabel)) {
			fmt.Fprintf(&b, "%s=%d %s\n", name, s.NumLabel[name], strings.Join(s.NumUnit[name], ""))
		}
		all[b.String()] += s.Value[column]
	}
	return all
}

// reader reads a request the way the protocol's comments say.
type reader struct {
	t testing.TB
	*profiles.ProfilesDictionary
}

func (r reader) value(v *common.AnyValue) string {
	switch v := v.Value.(type) {
	case *common.AnyValue_StringValue:
		return fmt.Sprintf("%q", []string{v.StringValue})
	case *common.AnyValue_StringValueStrindex:
		return fmt.Sprintf("%q", []string{r.StringTable[v.StringValueStrindex]})
	case *common.AnyValue_IntValue:
		return fmt.Sprint([]int64{v.IntValue})
	case *common.AnyValue_ArrayValue:
		var all []string
		for _, e := range v.ArrayValue.Values {
			all = append(all, strings.Trim(r.value(e), "[]"))
		}
		return "[" + strings.Join(all, " ") + "]"
	}
	r.t.Errorf("attribute %v", v)
	return ""
}

// Of reads a profile of OTLP.
func Of(t testing.TB, dictionary *profiles.ProfilesDictionary, p *profiles.Profile) Sums {
	t.Helper()
	r := reader{t, dictionary}
	all := Sums{}
	for _, s := range p.Samples {
		if len(s.Values) != 1 || len(s.TimestampsUnixNano) > 0 || s.LinkIndex != 0 {
			r.t.Errorf("sample %v", s)
		}
		var b strings.Builder
		for _, l := range r.StackTable[s.StackIndex].LocationIndices {
			location := r.LocationTable[l]
			m := r.MappingTable[location.MappingIndex]
			build := ""
			for _, a := range m.AttributeIndices {
				if r.StringTable[r.AttributeTable[a].KeyStrindex] == "process.executable.build_id.gnu" {
					build = r.AttributeTable[a].Value.GetStringValue()
				}
			}
			fmt.Fprintf(&b, "%x %s %x-%x+%x %s", location.Address, r.StringTable[m.FilenameStrindex], m.MemoryStart, m.MemoryLimit, m.FileOffset, build)
			for _, line := range location.Lines {
				f := r.FunctionTable[line.FunctionIndex]
				fmt.Fprintf(&b, " [%s %s %s:%d %d:%d]", r.StringTable[f.NameStrindex], r.StringTable[f.SystemNameStrindex],
					r.StringTable[f.FilenameStrindex], f.StartLine, line.Line, line.Column)
			}
			b.WriteString("\n")
		}
		names := map[int32]bool{}
		for numeric := range 2 { // texts first, as in ofPprof
			for _, a := range s.AttributeIndices {
				attribute := r.AttributeTable[a]
				value := r.value(attribute.Value)
				if isNumber := !strings.Contains(value, `"`); isNumber != (numeric == 1) {
					continue
				}
				if names[attribute.KeyStrindex] {
					r.t.Errorf("%s is there twice", r.StringTable[attribute.KeyStrindex])
				}
				names[attribute.KeyStrindex] = true
				if numeric == 1 {
					value += " " + r.StringTable[attribute.UnitStrindex]
				}
				fmt.Fprintf(&b, "%s=%s\n", r.StringTable[attribute.KeyStrindex], value)
			}
		}
		all[b.String()] += s.Values[0]
	}
	return all
}
