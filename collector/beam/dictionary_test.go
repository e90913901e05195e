package beam

import (
	"encoding/binary"
	"errors"
	"testing"
)

// Terms for tests.
func atomTerm(index uint64) uint64  { return index<<atomShift | tagAtom }
func smallTerm(value uint64) uint64 { return value<<4 | tagSmall }
func tupleTerm(addr uint64) uint64  { return addr | tagBoxed }
func listTerm(addr uint64) uint64   { return addr | tagList }
func tupleHeader(n uint64) uint64   { return n << headerShift }

// dictionaryOf is a process dictionary at 0x1000 with these slots.
func dictionaryOf(mask, used uint32, slots ...uint64) segment {
	words := []uint64{uint64(used)<<32 | uint64(mask), 0, 0}
	return segment{0x1000, append(words, slots...)}
}

func TestDictionaryValue(t *testing.T) {
	l := &layoutOTP25JITAMD64.Dictionary
	key := atomTerm(5) // slot 5 of 8, 1 of 4
	pair := func(at, key, value uint64) segment { return segment{at, []uint64{tupleHeader(2), key, value}} }
	eight := func(term uint64) segment {
		return dictionaryOf(7, 8, termNil, termNil, termNil, termNil, termNil, term, termNil, termNil)
	}
	for name, test := range map[string]struct {
		memory segments
		want   uint64
		err    error
	}{
		"alone in its slot": {segments{eight(tupleTerm(0x2000)), pair(0x2000, key, 42)}, 42, nil},
		"one of a list": {segments{
			eight(listTerm(0x3000)),
			{0x3000, []uint64{tupleTerm(0x2000), listTerm(0x3010), tupleTerm(0x2018), termNil}},
			pair(0x2000, atomTerm(13), 1), pair(0x2018, key, 42),
		}, 42, nil},
		"upper half not in use": {segments{dictionaryOf(7, 5, termNil, tupleTerm(0x2000), termNil, termNil, termNil), pair(0x2000, key, 42)}, 42, nil},
		"empty slot":            {segments{eight(termNil)}, 0, errAbsent},
		"another key":           {segments{eight(tupleTerm(0x2000)), pair(0x2000, atomTerm(13), 42)}, 0, errAbsent},
		"not in the list": {segments{
			eight(listTerm(0x3000)), {0x3000, []uint64{tupleTerm(0x2000), termNil}}, pair(0x2000, atomTerm(13), 1),
		}, 0, errAbsent},
		"endless list": {segments{
			eight(listTerm(0x3000)), {0x3000, []uint64{tupleTerm(0x2000), listTerm(0x3000)}}, pair(0x2000, atomTerm(13), 1),
		}, 0, errTorn},
		"moved by a collection":    {segments{eight(tupleTerm(0x2000)), {0x2000, []uint64{tupleTerm(0x9000), key, 42}}}, 0, errTorn},
		"tuple of three":           {segments{eight(tupleTerm(0x2000)), {0x2000, []uint64{tupleHeader(3), key, 42, 43}}}, 0, errTorn},
		"a number in a slot":       {segments{eight(smallTerm(1))}, 0, errTorn},
		"improper list":            {segments{eight(listTerm(0x3000)), {0x3000, []uint64{tupleTerm(0x2000), smallTerm(1)}}, pair(0x2000, atomTerm(13), 1)}, 0, errTorn},
		"mask is no mask":          {segments{dictionaryOf(6, 8, make([]uint64, 8)...)}, 0, errTorn},
		"more used than there are": {segments{dictionaryOf(7, 9, make([]uint64, 8)...)}, 0, errTorn},
		"fewer used than half":     {segments{dictionaryOf(7, 3, make([]uint64, 8)...)}, 0, errTorn},
		"huge":                     {segments{dictionaryOf(0xffffffff, 0, make([]uint64, 8)...)}, 0, errTorn},
	} {
		got, err := dictionaryValue(test.memory, l, 0x1000, key)
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: %d, %v, not %d, %v", name, got, err, test.want, test.err)
		}
	}
	if _, err := dictionaryValue(segments{}, l, 0x1000, key); err == nil {
		t.Error("found in memory that can't be read")
	}
}

func TestReadMFA(t *testing.T) {
	arguments := segment{0x3000, []uint64{smallTerm(1), listTerm(0x3010), smallTerm(2), termNil}}
	for name, test := range map[string]struct {
		words []uint64
		want  mfa
		ok    bool
	}{
		"arity":          {[]uint64{tupleHeader(3), atomTerm(1), atomTerm(2), smallTerm(4)}, mfa{atomTerm(1), atomTerm(2), 4}, true},
		"arguments":      {[]uint64{tupleHeader(3), atomTerm(1), atomTerm(2), listTerm(0x3000)}, mfa{atomTerm(1), atomTerm(2), 2}, true},
		"no arguments":   {[]uint64{tupleHeader(3), atomTerm(1), atomTerm(2), termNil}, mfa{atomTerm(1), atomTerm(2), 0}, true},
		"pair":           {[]uint64{tupleHeader(2), atomTerm(1), atomTerm(2), 0}, mfa{}, false},
		"no atom":        {[]uint64{tupleHeader(3), smallTerm(1), atomTerm(2), smallTerm(4)}, mfa{}, false},
		"negative arity": {[]uint64{tupleHeader(3), atomTerm(1), atomTerm(2), ^uint64(0)}, mfa{}, false},
		"huge arity":     {[]uint64{tupleHeader(3), atomTerm(1), atomTerm(2), smallTerm(256)}, mfa{}, false},
	} {
		got, err := readMFA(segments{{0x2000, test.words}, arguments}, tupleTerm(0x2000))
		if (err == nil) != test.ok || test.ok && got != test.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	endless := segments{
		{0x2000, []uint64{tupleHeader(3), atomTerm(1), atomTerm(2), listTerm(0x3000)}},
		{0x3000, []uint64{smallTerm(1), listTerm(0x3000)}},
	}
	if _, err := readMFA(endless, tupleTerm(0x2000)); !errors.Is(err, errTorn) {
		t.Errorf("endless arguments: %v", err)
	}
	if _, err := readMFA(endless, listTerm(0x2000)); !errors.Is(err, errTorn) {
		t.Errorf("a list: %v", err)
	}
}

// Whatever is in memory, reading ends soon, and what it returns was there.
func FuzzDictionary(f *testing.F) {
	seed := []byte{}
	for _, word := range []uint64{7 | 8<<32, 0, 0, tupleHeader(2), atomTerm(5), tupleTerm(0x1018), listTerm(0x1018)} {
		seed = binary.NativeEndian.AppendUint64(seed, word)
	}
	f.Add(seed, uint64(0x1000), atomTerm(5))
	f.Add([]byte{0}, uint64(0), uint64(0))
	f.Add([]byte{1}, ^uint64(0), termNil+uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, at, key uint64) {
		h := &hostile{data: data}
		value, err := dictionaryValue(h, &layoutOTP25JITAMD64.Dictionary, at, key)
		if err == nil {
			if function, err := readMFA(h, value); err == nil && (!IsAtom(function.module) || !IsAtom(function.function) || function.arity > maxArity) {
				t.Errorf("function %+v", function)
			}
		}
		if h.reads > 2*(maxDictionaryChain+maxArity+8) {
			t.Errorf("%d reads", h.reads)
		}
	})
}

// collected is memory in which a collection ends once a tuple was looked for: the
// dictionary has it elsewhere, and its place is used for something else.
type collected struct {
	before, after segments
	at            uint64
	ended         bool
}

func (c *collected) Read(buf []byte, addr uint64) error {
	c.ended = c.ended || addr == c.at
	if c.ended {
		return c.after.Read(buf, addr)
	}
	return c.before.Read(buf, addr)
}

func TestDictionaryMFAWhileItMoves(t *testing.T) {
	l := &layoutOTP25JITAMD64.Dictionary
	key := atomTerm(1)
	dictionary := func(tuple uint64) segments {
		return segments{
			dictionaryOf(1, 2, termNil, tupleTerm(0x2000)),
			{0x2000, []uint64{tupleHeader(2), key, tupleTerm(tuple)}},
			{0x4000, []uint64{tupleHeader(3), atomTerm(1), atomTerm(2), smallTerm(3)}},
		}
	}
	function := func(arity uint64) segment {
		return segment{0x3000, []uint64{tupleHeader(3), atomTerm(1), atomTerm(2), smallTerm(arity)}}
	}
	want := mfa{atomTerm(1), atomTerm(2), 3}
	stays := append(dictionary(0x3000), function(3))
	if got, err := dictionaryMFA(stays, l, 0x1000, key); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	moves := &collected{before: stays, after: append(dictionary(0x4000), function(22)), at: 0x3000}
	if got, err := dictionaryMFA(moves, l, 0x1000, key); !errors.Is(err, errTorn) {
		t.Errorf("read while it moved: %+v, %v", got, err)
	}
	if got, err := dictionaryMFA(moves, l, 0x1000, key); err != nil || got != want {
		t.Errorf("read after it moved: %+v, %v", got, err)
	}
	half := &arriving{before: append(dictionary(0x3000), function(22)), after: stays, at: 0x3000}
	if got, err := dictionaryMFA(half, l, 0x1000, key); !errors.Is(err, errTorn) {
		t.Errorf("read while the last word was not there yet: %+v, %v", got, err)
	}
	if got, err := dictionaryMFA(half, l, 0x1000, key); err != nil || got != want {
		t.Errorf("read when all of it was there: %+v, %v", got, err)
	}
}

// arriving is memory in which a tuple that is pointed to already gets its last word
// when it was read once.
type arriving struct {
	before, after segments
	at            uint64
	seen          bool
}

func (a *arriving) Read(buf []byte, addr uint64) error {
	if a.seen {
		return a.after.Read(buf, addr)
	}
	a.seen = addr == a.at
	return a.before.Read(buf, addr)
}
