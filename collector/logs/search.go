package logs

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// search finds literal texts in bytes, all at once, after Wu and Manber ("A Fast
// Algorithm for Multi-Pattern Searching", TR-94-17, 1994): the last two bytes of
// a window as long as the shortest text tell how far away the next text begins at
// least, so that most bytes are never looked at.
type search struct {
	texts  [][]byte
	window int           // bytes
	step   [1 << 16]int8 // by two bytes: how far the window moves on; if not at all, the negative index of a group
	groups []uint64      // texts whose first window ends with the same two bytes, as bits
}

// Bounds of the texts: two bytes are looked at, and steps are bytes.
const (
	minText   = 2
	maxWindow = 127
	maxTexts  = 64
)

// newSearch returns a search for at most maxTexts texts of at least minText bytes.
func newSearch(texts []string) *search {
	s := &search{window: maxWindow}
	for _, t := range texts {
		s.texts = append(s.texts, []byte(t))
		s.window = min(s.window, len(t))
	}
	for i := range s.step {
		s.step[i] = int8(s.window - 1)
	}
	for _, t := range s.texts {
		for end := minText; end < s.window; end++ {
			step := &s.step[binary.LittleEndian.Uint16(t[end-2:])]
			*step = min(*step, int8(s.window-end))
		}
	}
	s.groups = append(s.groups, 0) // 0 is no negative index
	for i, t := range s.texts {
		step := &s.step[binary.LittleEndian.Uint16(t[s.window-2:])]
		if *step > 0 {
			*step = -int8(len(s.groups))
			s.groups = append(s.groups, 0)
		}
		s.groups[-*step] |= 1 << i
	}
	return s
}

// next returns where the first text begins in data, from a place on, and which
// texts do there, as bits; -1 if there is none.
func (s *search) next(data []byte, from int) (at int, found uint64) {
	if len(s.texts) == 0 {
		return -1, 0
	}
	for end := from + s.window; end <= len(data); {
		step := s.step[binary.LittleEndian.Uint16(data[end-2:])]
		if step > 0 {
			end += int(step)
			continue
		}
		at = end - s.window
		for group := s.groups[-step]; group != 0; group &= group - 1 {
			if i := bits.TrailingZeros64(group); bytes.HasPrefix(data[at:], s.texts[i]) {
				found |= 1 << i
			}
		}
		if found != 0 {
			return at, found
		}
		end++
	}
	return -1, 0
}
