package native

import (
	"encoding/binary"
	"slices"
)

// ruleKind says how a register of the calling frame is found: DWARF 5,
// section 6.4.1.
type ruleKind uint8

const (
	ruleUnspecified     ruleKind = iota // callee-saved: same value; others: lost
	ruleUndefined                       // lost; of the return address: there is no caller
	ruleSame                            // same value as in this frame
	ruleOffset                          // in memory at CFA + offset
	ruleValueOffset                     // the number CFA + offset
	ruleRegister                        // in a register of this frame
	ruleExpression                      // in memory at the address the expression yields
	ruleValueExpression                 // the number the expression yields
)

// rule tells where one register of the calling frame is, or (with
// ruleRegister and ruleExpression only) what the CFA is.
type rule struct {
	kind     ruleKind
	register uint8 // of ruleRegister
	// offset in bytes; for the CFA it is added to the register's value. Of
	// expressions: index into the row's expressions.
	offset int64
}

// savedRule is the rule of one register.
type savedRule struct {
	number uint8
	rule
}

// row is what .eh_frame says of one address: how to get from a frame there
// to its caller. The CFA (canonical frame address) is the value of the stack
// pointer before the call that made the frame.
type row struct {
	cfa           rule
	returnAddress rule
	returnColumn  uint8
	saved         []savedRule // by number; without the return address column
	expressions   [][]byte
	signal        bool // the return address is where a signal struck, not one behind a call
	signed        bool // arm64: the return address carries an authentication code
}

// Rows that stand for places without unwind information.
var (
	noRow   = &row{} // nothing is known
	rootRow = &row{} // nothing is known, but it is where threads begin
)

// append encodes the row, so that equal rows have equal bytes.
func (r *row) append(b []byte) []byte {
	appendRule := func(b []byte, number uint8, rule rule) []byte {
		b = append(b, number, uint8(rule.kind), rule.register)
		return binary.AppendVarint(b, rule.offset)
	}
	flags := uint8(0)
	if r.signal {
		flags |= 1
	}
	if r.signed {
		flags |= 2
	}
	b = append(b, flags)
	b = appendRule(b, 0, r.cfa)
	b = appendRule(b, r.returnColumn, r.returnAddress)
	b = append(b, uint8(len(r.saved)))
	for _, s := range r.saved {
		b = appendRule(b, s.number, s.rule)
	}
	for _, e := range r.expressions {
		b = binary.AppendUvarint(b, uint64(len(e)))
		b = append(b, e...)
	}
	return b
}

const (
	// 1<<rowBits is how many addresses the cache holds: at 16 bytes each
	// 256 KiB. A busy VM shows some thousand distinct ones.
	rowBits = 14
	// maxRows bounds the distinct rows; beam.smp, libc and libcrypto together
	// have about 2000, of which a profile meets a few hundred.
	maxRows = 1 << 13
)

// rowCache remembers the rows of program counters, in a table where an
// address has just one place: a lookup costs a few nanoseconds, and the memory
// is bounded. Rows are shared, since few distinct ones occur.
type rowCache struct {
	slots   []rowSlot // nil until first used
	rows    map[string]*row
	scratch []byte
}

type rowSlot struct {
	pc  uint64
	row *row // nil: free
}

func (c *rowCache) clear() { *c = rowCache{} }

func (c *rowCache) slot(pc uint64) *rowSlot {
	if c.slots == nil {
		c.slots = make([]rowSlot, 1<<rowBits)
	}
	const golden = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio: spreads neighbours
	return &c.slots[pc*golden>>(64-rowBits)]
}

// shared returns a kept row equal to r, which the caller may change afterwards.
func (c *rowCache) shared(r *row) *row {
	c.scratch = r.append(c.scratch[:0])
	if known, ok := c.rows[string(c.scratch)]; ok {
		return known
	}
	if c.rows == nil || len(c.rows) >= maxRows {
		c.rows = map[string]*row{} // slots may keep old rows, which stay right
	}
	kept := *r
	kept.saved = slices.Clone(r.saved)
	kept.expressions = slices.Clone(r.expressions)
	c.rows[string(c.scratch)] = &kept
	return &kept
}
