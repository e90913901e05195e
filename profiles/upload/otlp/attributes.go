package otlp

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/google/pprof/profile"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	profiles "go.opentelemetry.io/proto/otlp/profiles/v1development"
)

func text(s string) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: s}}
}

func number(n int64) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: n}}
}

func list(values []*common.AnyValue) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: &common.ArrayValue{Values: values}}}
}

func texts(all []string) *common.AnyValue {
	values := make([]*common.AnyValue, len(all))
	for i, s := range all {
		values[i] = text(s)
	}
	return list(values)
}

// attribute is what makes two attributes equal.
type attribute struct {
	key, unit string
	text      string
	number    int64
	list      string // the type of the elements and, of several, the elements
}

func join(all []string) string {
	var b []byte
	for _, s := range all {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return string(b)
}

// attribute returns the number of an attribute; value makes its value.
func (w *writer) attribute(a attribute, value func() *common.AnyValue) int32 {
	n, ok := w.attributes[a]
	if !ok {
		n = int32(len(w.dictionary.AttributeTable))
		w.attributes[a] = n
		w.dictionary.AttributeTable = append(w.dictionary.AttributeTable, &profiles.KeyValueAndUnit{
			KeyStrindex: w.text(a.key), Value: value(), UnitStrindex: w.text(a.unit),
		})
	}
	return n
}

func (w *writer) textAttribute(key, value string) int32 {
	return w.attribute(attribute{key: key, text: value}, func() *common.AnyValue { return text(value) })
}

// labels returns a sample's labels as attributes, in the order of their names.
// A label with several values is an attribute with a list. Names are unique in
// OTLP: of a text and a number of the same name, the text stays.
func (w *writer) labels(s *profile.Sample) []int32 {
	var attributes []int32
	for _, name := range slices.Sorted(maps.Keys(s.Label)) {
		if values := s.Label[name]; len(values) == 1 {
			attributes = append(attributes, w.textAttribute(name, values[0]))
		} else if len(values) > 1 {
			attributes = append(attributes, w.attribute(attribute{key: name, list: "t" + join(values)}, func() *common.AnyValue { return texts(values) }))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.NumLabel)) {
		if values := s.NumLabel[name]; len(values) > 0 && len(s.Label[name]) == 0 {
			attributes = append(attributes, w.numbers(name, values, s.NumUnit[name]))
		}
	}
	return attributes
}

func (w *writer) numbers(name string, values []int64, units []string) int32 {
	a := attribute{key: name, number: values[0]}
	if len(units) > 0 {
		a.unit = units[0]
	}
	if len(values) == 1 {
		a.list = "n"
		return w.attribute(a, func() *common.AnyValue { return number(values[0]) })
	}
	a.list = "n" + fmt.Sprint(values)
	return w.attribute(a, func() *common.AnyValue {
		all := make([]*common.AnyValue, len(values))
		for i, v := range values {
			all[i] = number(v)
		}
		return list(all)
	})
}
