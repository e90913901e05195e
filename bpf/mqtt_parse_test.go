package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/perf"
)

// filterTest feeds the filter with packets of one connection.
type filterTest struct {
	program *MQTTProgram
	reader  *perf.Reader
}

func newFilterTest(tb testing.TB) *filterTest {
	tb.Helper()
	p := connectionPrograms(tb)
	m, err := LoadMQTT(p)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { m.Close() })
	if err := m.AddPort(1883); err != nil {
		tb.Fatal(err)
	}
	reader, err := perf.NewReader(p.Events, 1<<16)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { reader.Close() })
	return &filterTest{m, reader}
}

// hear makes a client say something in parts and returns the record that comes
// of it, nil if none does.
func (f *filterTest) hear(tb testing.TB, parts ...[]byte) *Speech {
	tb.Helper()
	const first = 0xfffffff0 // so that sequence numbers wrap
	ends := mqttEndpoints{LocalPort: 1883, RemotePort: 40000}
	copy(ends.Local[10:], []byte{0xff, 0xff, 127, 0, 0, 1})
	copy(ends.Remote[10:], []byte{0xff, 0xff, 127, 0, 0, 2})
	if err := f.program.objects.Heads.Put(ends, mqttHead{Client: first}); err != nil {
		tb.Fatal(err)
	}
	sequence := uint32(first)
	var speech *Speech
	for _, part := range parts {
		if _, err := f.program.Filter.Run(&ebpf.RunOptions{Data: frame(sequence, part)}); err != nil {
			tb.Fatal(err)
		}
		sequence += uint32(len(part))
		if s := f.read(tb); s != nil && speech != nil {
			tb.Fatalf("a second record: %+v", s)
		} else if s != nil {
			speech = s
		}
	}
	return speech
}

func (f *filterTest) read(tb testing.TB) *Speech {
	tb.Helper()
	f.reader.SetDeadline(time.Unix(1, 0))
	record, err := f.reader.Read()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err != nil {
		tb.Fatal(err)
	}
	s := &Speech{}
	raw := record.RawSample[:min(len(record.RawSample), int(unsafe.Sizeof(*s)))]
	copy(unsafe.Slice((*byte)(unsafe.Pointer(s)), unsafe.Sizeof(*s)), raw)
	if end := int(unsafe.Offsetof(s.Bytes)) + int(s.Length); len(record.RawSample) < end || len(record.RawSample) > end+12 {
		tb.Fatalf("a record of %d bytes, want %d and what fills a word", len(record.RawSample), end)
	}
	for f.read(tb) != nil {
		tb.Fatal("two records of one packet")
	}
	return s
}

// frame is an Ethernet frame with a segment from 127.0.0.2:40000 to 127.0.0.1:1883.
func frame(sequence uint32, data []byte) []byte {
	b := make([]byte, 14, 54+len(data))
	binary.BigEndian.PutUint16(b[12:], 0x0800)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(40+len(data)))
	b = append(b, 0, 0, 0, 0, 64, 6, 0, 0, 127, 0, 0, 2, 127, 0, 0, 1)
	b = binary.BigEndian.AppendUint16(b, 40000)
	b = binary.BigEndian.AppendUint16(b, 1883)
	b = binary.BigEndian.AppendUint32(b, sequence)
	b = append(b, 0, 0, 0, 0, 0x50, 0x18, 0, 0, 0, 0, 0, 0)
	return append(b, data...)
}

// What parse says of the first bytes of a connection.
const (
	notMQTT = iota
	incomplete
	complete
)

// parse reads a CONNECT as the standards say (MQTT 3.1.1 and 5, chapters 2 and
// 3.1), up to the client id.
func parse(b []byte) (result int, s Speech) {
	if b[0] != 0x10 {
		return notMQTT, Speech{}
	}
	_, rest, ok := number(b[1:])
	if !ok {
		if len(b) < 5 {
			return incomplete, s
		}
		return notMQTT, Speech{}
	}
	if len(rest) < 2 {
		return incomplete, s
	}
	name := int(binary.BigEndian.Uint16(rest))
	if name != 4 && name != 6 {
		return notMQTT, Speech{}
	}
	if rest = rest[2:]; len(rest) < name+4 {
		return incomplete, s
	}
	if text := string(rest[:4]); name == 4 && text != "MQTT" || name == 6 && text != "MQIs" {
		return notMQTT, Speech{}
	}
	rest = rest[name:]
	s = Speech{Mqtt: 1, Level: rest[0] & 127, Flags: rest[1], KeepAlive: binary.BigEndian.Uint16(rest[2:])}
	rest = rest[4:]
	if s.Level == 5 {
		n, after, ok := number(rest)
		if !ok || n > len(after) {
			return incomplete, s
		}
		rest = after[n:]
	}
	if len(rest) < 2 {
		return incomplete, s
	}
	s.IdLength = binary.BigEndian.Uint16(rest)
	id := rest[2:]
	s.Length = min(uint32(s.IdLength), MaxID)
	if uint32(len(id)) < s.Length {
		return incomplete, s
	}
	s.Whole = 1
	copy(s.Bytes[:], id[:s.Length])
	return complete, s
}

// number reads one of MQTT's numbers of variable length.
func number(b []byte) (n int, rest []byte, ok bool) {
	for i := 0; i < min(len(b), 4); i++ {
		n |= int(b[i]&127) << (7 * i)
		if b[i] < 128 {
			return n, b[i+1:], true
		}
	}
	return 0, nil, false
}

// want is what the filter is to say of parts, nil if nothing.
func want(parts ...[]byte) *Speech {
	const most = 512
	var all []byte
	for _, part := range parts {
		all = append(all, part[:min(len(part), most)]...)
		switch result, s := parse(all); {
		case result == complete:
			return &s
		case result == notMQTT:
			s.Length = uint32(copy(s.Bytes[:8], all))
			return &s
		case len(all) >= most:
			s.Length = 0
			return &s
		}
	}
	return nil
}

// FuzzFilter compares what the filter says of packets with what the standards
// say: it never says more than the client id.
func FuzzFilter(f *testing.F) {
	three := []byte("\x10\x20\x00\x06MQIsdp\x03\xc2\x00\x3c\x00\x02id\x00\x04user\x00\x08password")
	four := []byte("\x10\x1e\x00\x04MQTT\x04\xc2\x00\x3c\x00\x02id\x00\x04user\x00\x08password")
	five := []byte("\x10\x26\x00\x04MQTT\x05\xc2\x00\x3c\x08\x15\x00\x05SCRAM\x00\x02id\x00\x04user\x00\x08password")
	long := append([]byte("\x10\xff\x01\x00\x04MQTT\x04\x02\x00\x3c\x00\xf0"), bytes.Repeat([]byte("x"), 240)...)
	huge := append([]byte("\x10\xff\xff\x7f\x00\x04MQTT\x05\x02\x00\x3c\xd0\x0f"), bytes.Repeat([]byte("x"), 1400)...)
	for _, seed := range [][]byte{three, four, five, long, huge, {0x10}, {0x10, 0xff, 0xff, 0xff, 0xff, 0}, []byte("GET / HTTP/1.1\r\n"), {0x16, 3, 1}} {
		f.Add(seed, uint16(0))
		f.Add(seed, uint16(5))
		f.Add(seed, uint16(len(seed)/2))
	}
	test := newFilterTest(f)
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		if len(data) == 0 || len(data) > 2000 {
			return
		}
		parts := [][]byte{data}
		if at := int(cut); at > 0 && at < len(data) {
			parts = [][]byte{data[:at], data[at:]}
		}
		got, want := test.hear(t, parts...), want(parts...)
		if (got == nil) != (want == nil) {
			t.Fatalf("%+v, want %+v", got, want)
		}
		if got == nil {
			return
		}
		want.Type, want.Time, want.Ends = RecordSpoke, got.Time, got.Ends
		clear(got.Bytes[got.Length:]) // what fills the record's last word
		if *got != *want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}
