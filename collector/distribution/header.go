package distribution

import "encoding/binary"

// Kinds of packets between nodes: the byte after 131 (External Term Format,
// "Distribution Header"; erts/emulator/beam/external.h).
const (
	headerNormal   = 68
	headerFirst    = 69 // of the fragments of one message
	headerFragment = 70 // a further one
	passThrough    = 112
)

// packet is a message as it is sent between nodes: the atoms it names by number,
// and the terms.
type packet struct {
	atoms   []string // empty text: not known
	unknown int      // atoms that are not known
	terms   []byte
}

// parsePacket reads the header of a message, as far as it is there. known are
// the atoms that the VM's cache holds for the header's references, in their
// order, as terms; name gives their text.
func parsePacket(data []byte, known []uint64, name func(uint64) (string, bool)) (p packet, ok bool) {
	if len(data) > 0 && data[0] == passThrough {
		return packet{terms: data[1:]}, true
	}
	if len(data) < 2 || data[0] != tagVersion {
		return p, false
	}
	at := 2
	switch data[1] {
	case headerNormal:
	case headerFirst:
		at += 16 // sequence and fragment number
	case headerFragment:
		return p, false
	default: // no header at all: a peer without atom cache
		return packet{terms: data}, true
	}
	if at >= len(data) {
		return p, false
	}
	count := int(data[at])
	at++
	if count == 0 {
		return packet{terms: data[at:]}, true
	}
	flags := data[at:]
	at += count/2 + 1
	if at > len(data) {
		return p, false
	}
	wide := flags[count/2]>>(4*(count&1))&1 == 1
	for n := range count {
		text, next, ok := cacheReference(data, at, flags[n/2]>>(4*(n&1))&8 != 0, wide)
		if !ok {
			return p, false // the terms are behind the end
		}
		if text == "" && n < len(known) {
			text, _ = name(known[n])
		}
		if text == "" {
			p.unknown++
		}
		p.atoms = append(p.atoms, text)
		at = next
	}
	p.terms = data[at:]
	return p, true
}

// cacheReference reads one reference to an atom: its number in the cache and, if it
// is new there, its text.
func cacheReference(data []byte, at int, isNew, wide bool) (text string, next int, ok bool) {
	at++
	if !isNew {
		return "", at, at <= len(data)
	}
	length := 0
	switch {
	case wide && at+2 <= len(data):
		length = int(binary.BigEndian.Uint16(data[at:]))
		at += 2
	case !wide && at+1 <= len(data):
		length = int(data[at])
		at++
	default:
		return "", at, false
	}
	if at+length > len(data) {
		return "", at, false
	}
	return string(data[at : at+length]), at + length, true
}
