package logs

// search finds literal texts in bytes, all at once: an Aho-Corasick automaton
// (Communications of the ACM 18:6, 1975) as one table, so that a byte costs one
// look-up however many texts there are.
type search struct {
	class   [256]uint16 // of each byte; 0 for those that no text has
	classes int
	next    []uint32 // [state + class], states being multiples of classes
	found   []uint64 // by state / classes: the texts that end there, as bits
	accepts uint32   // states from here on have a text that ends there
}

// newSearch returns a search for at most 64 texts, none of them empty.
func newSearch(texts []string) *search {
	s := &search{classes: 1}
	for _, t := range texts {
		for i := range len(t) {
			if s.class[t[i]] == 0 {
				s.class[t[i]] = uint16(s.classes)
				s.classes++
			}
		}
	}
	b := trie{classes: s.classes}
	b.add()
	for i, t := range texts {
		at := 0
		for j := range len(t) {
			c := s.class[t[j]]
			if b.child[at][c] == 0 {
				b.child[at][c] = b.add()
			}
			at = b.child[at][c]
		}
		b.found[at] |= 1 << i
	}
	b.link()
	b.number(s)
	return s
}

// trie is the automaton while it is built; state 0 is the root.
type trie struct {
	classes int
	child   [][]int
	found   []uint64
}

func (b *trie) add() int {
	b.child = append(b.child, make([]int, b.classes))
	b.found = append(b.found, 0)
	return len(b.child) - 1
}

// link makes the trie's missing edges those of the longest suffix that is in it.
func (b *trie) link() {
	suffix := make([]int, len(b.child))
	queue := []int{0}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for c, to := range b.child[at] {
			switch {
			case to == 0 && at != 0:
				b.child[at][c] = b.child[suffix[at]][c]
			case to != 0:
				if at != 0 {
					suffix[to] = b.child[suffix[at]][c]
				}
				b.found[to] |= b.found[suffix[to]]
				queue = append(queue, to)
			}
		}
	}
}

// number writes the table, with the states in which a text ends last.
func (b *trie) number(s *search) {
	number := make([]uint32, len(b.child))
	var order []int
	for _, accepting := range []bool{false, true} {
		if accepting {
			s.accepts = uint32(len(order) * s.classes)
		}
		for state, found := range b.found {
			if (found != 0) == accepting {
				number[state] = uint32(len(order) * s.classes)
				order = append(order, state)
			}
		}
	}
	for _, state := range order {
		for _, to := range b.child[state] {
			s.next = append(s.next, number[to])
		}
		s.found = append(s.found, b.found[state])
	}
}

// first returns where in data the first text ends and the state there, or -1.
func (s *search) first(data []byte) (at int, state uint32) {
	next, accepts := s.next, s.accepts
	for i, b := range data {
		state = next[state+uint32(s.class[b])]
		if state >= accepts {
			return i, state
		}
	}
	return -1, state
}

// rest returns which texts end at the state that first returned or in what
// follows.
func (s *search) rest(state uint32, data []byte) uint64 {
	found := s.found[int(state)/s.classes]
	for _, b := range data {
		state = s.next[state+uint32(s.class[b])]
		if state >= s.accepts {
			found |= s.found[int(state)/s.classes]
		}
	}
	return found
}
