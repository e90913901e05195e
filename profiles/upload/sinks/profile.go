package sinks

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Kinds of profiles.
const (
	KindCPU          = "cpu"
	KindDistribution = "distribution"
	KindConnections  = "connections"
)

// Profile is what goes to the sinks: one profile of one target.
type Profile struct {
	Kind   string            `json:"kind"`   // one of the kinds above
	Labels map[string]string `json:"labels"` // of the target: service_name, node, host, ...
	Start  time.Time         `json:"start"`
	End    time.Time         `json:"end"`
	Data   []byte            `json:"-"` // gzipped pprof
}

// ID tells profiles apart, as a UUID does.
type ID [16]byte

// String writes the ID as UUIDs are written.
func (id ID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// ID is made of all that the profile is, so that one that is sent again, even
// after a restart, has the ID it had.
func (p *Profile) ID() ID {
	h := sha256.New()
	text := func(s string) {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(s))))
		h.Write([]byte(s))
	}
	text(p.Kind)
	for _, name := range slices.Sorted(maps.Keys(p.Labels)) {
		text(name)
		text(p.Labels[name])
	}
	text(fmt.Sprint(p.Start.UnixNano(), p.End.UnixNano()))
	h.Write(p.Data)
	id := ID(h.Sum(nil)[:16])
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // version 8 of RFC 9562: of our own making
	return id
}
