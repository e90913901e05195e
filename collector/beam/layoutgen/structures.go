package main

import (
	"debug/dwarf"
	"errors"
	"fmt"
	"strings"
)

// structs holds the structures found, by tag and by typedef name.
type structs struct {
	byName   map[string][]*dwarf.StructType
	producer string
}

// candidates returns the different definitions under any of the names.
func (s *structs) candidates(names []string) []*dwarf.StructType {
	var all []*dwarf.StructType
	for _, name := range names {
		all = append(all, s.byName[name]...)
	}
	return all
}

// structures collects the complete structures and unions called one of
// wanted, one per different size: every compilation unit repeats them.
func structures(data *dwarf.Data, wanted map[string]bool) (*structs, error) {
	found := &structs{byName: map[string][]*dwarf.StructType{}}
	type definition struct {
		name string
		size int64
	}
	seen := map[definition]bool{}
	reader := data.Reader()
	for {
		entry, err := reader.Next()
		if err != nil {
			return nil, fmt.Errorf("read debug information: %w", err)
		}
		if entry == nil {
			break
		}
		name, _ := entry.Val(dwarf.AttrName).(string)
		switch entry.Tag {
		case dwarf.TagCompileUnit:
			if producer, _ := entry.Val(dwarf.AttrProducer).(string); strings.HasPrefix(producer, "GNU C1") {
				found.producer = producer
			}
			continue
		case dwarf.TagStructType, dwarf.TagUnionType, dwarf.TagTypedef:
		default:
			continue
		}
		if !wanted[name] {
			continue
		}
		s, err := structure(data, entry.Offset)
		if err != nil {
			return nil, fmt.Errorf("type %s: %w", name, err)
		}
		if d := (definition{name, sizeOf(s)}); s != nil && !seen[d] {
			seen[d] = true
			found.byName[name] = append(found.byName[name], s)
		}
	}
	if len(found.byName) == 0 {
		return nil, errors.New("no structure of the emulator in the debug information")
	}
	return found, nil
}

// structure returns the complete structure or union at an entry, behind any
// typedefs, or nil if there is none.
func structure(data *dwarf.Data, at dwarf.Offset) (*dwarf.StructType, error) {
	t, err := data.Type(at)
	if err != nil {
		return nil, err
	}
	if s := bare(t); s != nil && !s.Incomplete {
		return s, nil
	}
	return nil, nil
}

// bare returns the structure behind typedefs and qualifiers, or nil.
func bare(t dwarf.Type) *dwarf.StructType {
	for {
		switch x := t.(type) {
		case *dwarf.TypedefType:
			t = x.Type
		case *dwarf.QualType:
			t = x.Type
		case *dwarf.StructType:
			return x
		default:
			return nil
		}
	}
}

func sizeOf(s *dwarf.StructType) int64 {
	if s == nil {
		return 0
	}
	return s.ByteSize
}

// find returns the offset of a field given as a path such as "u.alive.reg";
// the path "sizeof" is the size of the structure.
func find(s *dwarf.StructType, path string) (int64, bool) {
	if path == "sizeof" {
		return s.ByteSize, true
	}
	first, rest, nested := strings.Cut(path, ".")
	for _, f := range s.Field {
		if f.Name != first {
			continue
		}
		if !nested {
			return f.ByteOffset, true
		}
		inner := bare(f.Type)
		if inner == nil {
			return 0, false
		}
		at, ok := find(inner, rest)
		return f.ByteOffset + at, ok
	}
	return 0, false
}
