package sampler

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/beamprof/beamprof/collector/beam/jit"
)

// oneRegion is code from 0x1000 to 0x2000.
type oneRegion struct{}

func (oneRegion) Contains(pc uint64) bool                    { return pc >= 0x1000 && pc < 0x2000 }
func (oneRegion) Lookup(uint64, uint64) (jit.Function, bool) { return jit.Function{}, false }
func (oneRegion) Version() uint64                            { return 0 }

// TestWalk walks an Erlang stack whose words are known: which of them are return
// addresses, and whether its root was reached.
func TestWalk(t *testing.T) {
	const base, root = 0x7000, 0x1ff0
	for _, c := range []struct {
		name     string
		words    []uint64
		pcs      []uint64
		complete bool
	}{
		{"frames between terms", []uint64{0x1100, 0x3b, 0x8001, 0x1200, 0, root}, []uint64{0x1100, 0x1200}, true},
		{"the root alone", []uint64{root}, nil, true},
		{"nothing behind the root", []uint64{0x1100, root, 0x1200}, []uint64{0x1100}, true},
		{"no root", []uint64{0x1100, 0x3b}, []uint64{0x1100}, false},
		{"where code begins nothing returns to", []uint64{0x1100, 0x1000, root}, []uint64{0x1100}, true},
		{"where a call ends the code", []uint64{0x2000, root}, []uint64{0x2000}, true},
		{"terms with the bits of code", []uint64{0x1101, 0x1102, 0x1103, root}, nil, true},
	} {
		var bytes []byte
		for _, w := range c.words {
			bytes = binary.LittleEndian.AppendUint64(bytes, w)
		}
		stack := erlangStack{top: base, lower: chunk{base, bytes}, normalExit: root}
		spans, missing, complete := stack.walk(oneRegion{}, nil)
		var pcs []uint64
		for _, s := range spans {
			pcs = append(pcs, s.pc)
		}
		if !slices.Equal(pcs, c.pcs) || complete != c.complete || missing >= 0 {
			t.Errorf("%s: %#x, complete %v, missing %d", c.name, pcs, complete, missing)
		}
	}
}
