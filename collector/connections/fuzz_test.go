package connections

import (
	"encoding/binary"
	"slices"
	"testing"
	"unsafe"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector/ordered"
)

// bytesOf returns a record as the kernel side writes it.
func bytesOf[T any](record T, length int) []byte {
	return slices.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&record)), length))
}

// said is a record of what a client, or a server, said first.
func said(kind uint32, s bpf.Speech, text string) []byte {
	s.Type, s.Length = kind, uint32(copy(s.Bytes[:], text))
	return bytesOf(s, speechHead+len(text))
}

// FuzzRecords: whatever a record holds, nothing is read that is not there.
func FuzzRecords(f *testing.F) {
	opened := bpf.ConnectionRecord{Type: bpf.RecordConnection, Event: bpf.ConnectionOpened, Time: 1}
	closed := opened
	closed.Event, closed.By = bpf.ConnectionClosed, bpf.ClosedByTarget
	f.Add(bytesOf(opened, recordSize), bytesOf(closed, recordSize))
	f.Add(bytesOf(opened, recordSize)[:20], []byte{})
	for _, text := range []string{"", "\x16\x03\x01", "GET / HT", "vmq-conn", "\x00\x1eN", "AMQP"} {
		f.Add(said(bpf.RecordSpoke, bpf.Speech{}, text), said(bpf.RecordAnswered, bpf.Speech{}, "HTTP/1.1 101"))
	}
	for _, answer := range []string{"\x20\x02\x00\x05", "\x20\x06\x00\x87\x03\x21\x00\x0a", "\x20\xff\xff\xff\xff\x00\x00", "\x20", "\x20\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80"} {
		f.Add(said(bpf.RecordSpoke, bpf.Speech{Mqtt: 1, Whole: 1, Level: 9, IdLength: 65535}, "id"), said(bpf.RecordAnswered, bpf.Speech{}, answer))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		table := newTable(&listeners{byNumber: map[uint32]*Listener{0: {}}})
		var p ordered.Records
		for _, raw := range [][]byte{bytesOf(opened, recordSize), first, second, bytesOf(closed, recordSize)} {
			if len(raw) >= 4 && binary.NativeEndian.Uint32(raw) == bpf.RecordConnection && len(raw) >= recordSize {
				raw = slices.Clone(raw)
				if binary.NativeEndian.Uint16(raw[4:]) == bpf.ListenerOpened { // goes to the kernel side
					raw[4] = bpf.ConnectionOpened
				}
			}
			p.Add(raw)
		}
		var last uint64
		p.Flush(ordered.All, func(raw []byte) {
			r := &record{}
			if !r.parse(raw) {
				return
			}
			if r.Time < last {
				t.Fatal("not in the order of their times")
			}
			last = r.Time
			table.add(r, func(e Event) {
				if e.Connection.ID == 0 || e.Connection.Protocol == "" {
					t.Fatalf("%+v", e)
				}
				if c := e.Connection.Connect; c != nil && (len(c.ClientID) > bpf.MaxID || c.Version == "") {
					t.Fatalf("%+v", c)
				}
			})
		})
		if p.Len() > 0 || len(table.open) > 2 || len(table.early) > 2 {
			t.Errorf("%d records, %d connections and %d words are left", p.Len(), len(table.open), len(table.early))
		}
	})
}

func TestMalformedRecords(t *testing.T) {
	for _, raw := range [][]byte{nil, bytesOf(bpf.ConnectionRecord{Type: bpf.RecordConnection}, recordSize-1), make([]byte, 200)} {
		var r record
		if r.parse(raw) {
			t.Errorf("%d bytes that are no record were taken for one", len(raw))
		}
	}
}
