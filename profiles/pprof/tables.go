package pprof

import (
	"slices"

	"github.com/beamprof/beamprof/collector"
)

// frameTable numbers frames in the order they are first seen. Small numbers
// instead of pointers halve the memory of stacks, and the garbage collector
// has nothing to scan in them.
type frameTable struct {
	ids    map[*collector.Frame]uint32
	frames []*collector.Frame
}

func newFrameTable() frameTable {
	return frameTable{ids: make(map[*collector.Frame]uint32)}
}

func (t *frameTable) appendIDs(ids []uint32, stack []*collector.Frame) []uint32 {
	for _, frame := range stack {
		id, ok := t.ids[frame]
		if !ok {
			id = uint32(len(t.frames))
			t.ids[frame] = id
			t.frames = append(t.frames, frame)
		}
		ids = append(ids, id)
	}
	return ids
}

// appendKnownIDs is appendIDs that adds no frame; ok is false if one is new.
func (t *frameTable) appendKnownIDs(ids []uint32, stack []*collector.Frame) (_ []uint32, ok bool) {
	for _, frame := range stack {
		id, ok := t.ids[frame]
		if !ok {
			return ids, false
		}
		ids = append(ids, id)
	}
	return ids, true
}

// stackTable numbers stacks. Frames of all stacks lie one after another in
// one arena; stacks of equal hash are chained.
type stackTable struct {
	arena  []uint32
	stacks []stack
	first  map[uint64]uint32 // hash to the newest stack that has it
}

type stack struct {
	offset, length int
	next           int // the next stack with the same hash, -1 if none
}

func newStackTable() stackTable {
	return stackTable{first: make(map[uint64]uint32)}
}

func (t *stackTable) frames(id uint32) []uint32 {
	s := t.stacks[id]
	return t.arena[s.offset : s.offset+s.length]
}

func (t *stackTable) find(ids []uint32) (uint32, bool) {
	return t.findHash(hash(ids), ids)
}

func (t *stackTable) findHash(h uint64, ids []uint32) (uint32, bool) {
	id, ok := t.first[h]
	if !ok {
		return 0, false
	}
	for i := int(id); i >= 0; i = t.stacks[i].next {
		if slices.Equal(t.frames(uint32(i)), ids) {
			return uint32(i), true
		}
	}
	return 0, false
}

func (t *stackTable) intern(ids []uint32) uint32 {
	h := hash(ids)
	if id, ok := t.findHash(h, ids); ok {
		return id
	}
	next := -1
	if id, ok := t.first[h]; ok {
		next = int(id)
	}
	id := uint32(len(t.stacks))
	t.stacks = append(t.stacks, stack{offset: len(t.arena), length: len(ids), next: next})
	t.arena = append(t.arena, ids...)
	t.first[h] = id
	return id
}

// hash is FNV-1a over whole ids, with a last mix for the low bits.
func hash(ids []uint32) uint64 {
	h := uint64(14695981039346656037)
	for _, id := range ids {
		h = (h ^ uint64(id)) * 1099511628211
	}
	return h ^ h>>32
}
