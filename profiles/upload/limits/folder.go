package limits

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/google/pprof/profile"
)

// folder holds the samples of a profile as rows that can be made coarser.
type folder struct {
	profile *profile.Profile
	allowed []string
	column  int // of the values: what rows are weighed by
	rows    []*row
	known   map[string]*labelSet
	key     []byte // scratch
	markers map[string]*profile.Location
	folded  int // rows that lost something, by what they were at first
}

// row is a sample: values by stack and labels.
type row struct {
	labels *labelSet
	stack  []*profile.Location // leaf first
	values []int64
	was    int  // rows that this one was at first
	coarse bool // it lost something
}

// labelSet is a set of labels. Equal ones are one.
type labelSet struct {
	number  int
	label   map[string][]string
	numbers map[string][]int64
	units   map[string][]string
}

func newFolder(p *profile.Profile, allowed []string) *folder {
	f := &folder{
		profile: p, allowed: allowed, column: max(len(p.SampleType)-1, 0),
		known: map[string]*labelSet{}, markers: map[string]*profile.Location{},
	}
	for i, t := range p.SampleType {
		if t.Type == p.DefaultSampleType {
			f.column = i
		}
	}
	for _, s := range p.Sample {
		full := labelSet{label: s.Label, numbers: s.NumLabel, units: s.NumUnit}
		f.rows = append(f.rows, &row{labels: f.only(&full, len(allowed)), stack: s.Location, values: s.Value, was: 1})
	}
	f.merge()
	return f
}

// only returns a set's labels of the first so many that are allowed.
func (f *folder) only(s *labelSet, first int) *labelSet {
	f.key = f.key[:0]
	text := func(t string) {
		f.key = append(binary.AppendUvarint(f.key, uint64(len(t))), t...)
	}
	for i, name := range f.allowed[:first] {
		values, numbers := s.label[name], s.numbers[name]
		if len(values)+len(numbers) == 0 {
			continue
		}
		for _, n := range []int{i, len(values), len(numbers)} {
			f.key = binary.AppendUvarint(f.key, uint64(n))
		}
		for _, v := range values {
			text(v)
		}
		for i, v := range numbers {
			f.key = binary.AppendVarint(f.key, v)
			text(s.unit(name, i))
		}
	}
	if known := f.known[string(f.key)]; known != nil {
		return known
	}
	made := &labelSet{number: len(f.known), label: map[string][]string{}}
	for _, name := range f.allowed[:first] {
		if values := s.label[name]; len(values) > 0 {
			made.label[name] = values
		}
		if numbers := s.numbers[name]; len(numbers) > 0 {
			if made.numbers == nil {
				made.numbers, made.units = map[string][]int64{}, map[string][]string{}
			}
			made.numbers[name] = numbers
			if len(s.units[name]) == len(numbers) {
				made.units[name] = s.units[name]
			}
		}
	}
	f.known[string(f.key)] = made
	return made
}

// unit returns the unit of the number i of a label.
func (s *labelSet) unit(name string, i int) string {
	if units := s.units[name]; i < len(units) {
		return units[i]
	}
	return ""
}

// merge makes one row of those that are equal.
func (f *folder) merge() {
	first := make(map[string]*row, len(f.rows))
	kept := f.rows[:0]
	for _, r := range f.rows {
		f.key = binary.AppendUvarint(f.key[:0], uint64(r.labels.number))
		for _, l := range r.stack {
			f.key = binary.AppendUvarint(f.key, l.ID)
		}
		known := first[string(f.key)]
		if known == nil {
			first[string(f.key)] = r
			kept = append(kept, r)
			continue
		}
		for i, v := range r.values {
			known.values[i] += v
		}
		known.was += r.was
		known.coarse = known.coarse || r.coarse
	}
	clear(f.rows[len(kept):])
	f.rows = kept
}

func (f *folder) weight(r *row) int64 {
	if f.column >= len(r.values) {
		return 0
	}
	return max(r.values[f.column], -r.values[f.column])
}

// lose notes that a row is about to lose something.
func (f *folder) lose(r *row) {
	if !r.coarse {
		f.folded += r.was
		r.coarse = true
	}
}

// cut takes frames from the middle of stacks that are too deep; the root and
// the leaf stay.
func (f *folder) cut(depth int) (stacks int) {
	for _, r := range f.rows {
		if n := len(r.stack); n > depth {
			leaf := (depth - 1) / 2
			root := depth - 1 - leaf
			r.stack = slices.Concat(r.stack[:leaf], []*profile.Location{f.marker(CutFrame)}, r.stack[n-root:])
			stacks += r.was
		}
	}
	if stacks > 0 {
		f.merge()
	}
	return stacks
}

func (f *folder) sets() map[*labelSet]int64 {
	weights := map[*labelSet]int64{}
	for _, r := range f.rows {
		weights[r.labels] += f.weight(r)
	}
	return weights
}

// foldLabels leaves at most so many sets of labels: the smallest lose their
// least important labels.
func (f *folder) foldLabels(most int) {
	for first := len(f.allowed) - 1; first >= 0; first-- {
		weights := f.sets()
		if len(weights) <= most {
			return
		}
		order := slices.SortedFunc(maps.Keys(weights), func(a, b *labelSet) int {
			return cmp.Or(cmp.Compare(weights[b], weights[a]), cmp.Compare(a.number, b.number))
		})
		coarser := map[*labelSet]*labelSet{}
		for _, s := range order[most/2:] {
			coarser[s] = f.only(s, first)
		}
		for _, r := range f.rows {
			if c := coarser[r.labels]; c != nil && c != r.labels {
				f.lose(r)
				r.labels = c
			}
		}
		f.merge()
	}
}

// foldStacks leaves at most so many rows: the smallest keep only the frames
// next to the root.
func (f *folder) foldStacks(most int) {
	if len(f.rows) <= most {
		return
	}
	f.foldLabels(max(1, most/4))
	if len(f.rows) <= most {
		return
	}
	slices.SortStableFunc(f.rows, func(a, b *row) int { return cmp.Compare(f.weight(b), f.weight(a)) })
	whole, tail := f.rows[:most/2], f.rows[most/2:]
	for _, depth := range []int{128, 64, 32, 16, 8, 4, 2, 1, 0} {
		for _, r := range tail {
			if n := len(r.stack); n > depth+1 || depth == 0 {
				f.lose(r)
				r.stack = slices.Concat([]*profile.Location{f.marker(FoldedFrame)}, r.stack[n-min(n, depth):])
			}
		}
		f.rows = slices.Concat(whole, tail)
		f.merge()
		if len(f.rows) <= most {
			return
		}
		tail = f.rows[len(whole):]
	}
	// Sets of labels alone are too many only if most is tiny.
	for _, r := range f.rows {
		f.lose(r)
		r.labels, r.stack = f.only(r.labels, 0), []*profile.Location{f.marker(FoldedFrame)}
	}
	f.merge()
}

// marker returns a frame that is not code.
func (f *folder) marker(name string) *profile.Location {
	if l := f.markers[name]; l != nil {
		return l
	}
	var function, location uint64
	for _, known := range f.profile.Function {
		function = max(function, known.ID)
	}
	for _, known := range f.profile.Location {
		location = max(location, known.ID)
	}
	made := &profile.Function{ID: function + 1, Name: name}
	l := &profile.Location{ID: location + 1, Line: []profile.Line{{Function: made}}}
	f.profile.Function = append(f.profile.Function, made)
	f.profile.Location = append(f.profile.Location, l)
	f.markers[name] = l
	return l
}

// write makes the profile's samples of the rows, and removes locations,
// functions and mappings that none refers to.
func (f *folder) write() {
	p := f.profile
	p.Sample = p.Sample[:0]
	locations, functions, mappings := map[*profile.Location]bool{}, map[*profile.Function]bool{}, map[*profile.Mapping]bool{}
	for _, r := range f.rows {
		p.Sample = append(p.Sample, &profile.Sample{
			Location: r.stack, Value: r.values, Label: r.labels.label, NumLabel: r.labels.numbers, NumUnit: r.labels.units,
		})
		for _, l := range r.stack {
			locations[l] = true
		}
	}
	for l := range locations {
		if l.Mapping != nil {
			mappings[l.Mapping] = true
		}
		for _, line := range l.Line {
			functions[line.Function] = true
		}
	}
	p.Location = slices.DeleteFunc(p.Location, func(l *profile.Location) bool { return !locations[l] })
	p.Function = slices.DeleteFunc(p.Function, func(fn *profile.Function) bool { return !functions[fn] })
	p.Mapping = slices.DeleteFunc(p.Mapping, func(m *profile.Mapping) bool { return !mappings[m] })
	for _, m := range []*profile.Location{f.markers[FoldedFrame], f.markers[CutFrame]} {
		if m != nil && !locations[m] {
			delete(f.markers, m.Line[0].Function.Name)
		}
	}
}
