package sampler

import (
	"encoding/binary"
	"slices"
	"testing"
	"unicode/utf8"
	"unsafe"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/native"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// parts is what a record is made of, behind its header.
type parts struct {
	head, kernel, boundary, cStack, root, top, terms, callers []byte
}

// encode makes a record as the kernel side does.
func encode(h bpf.Header, p parts) []byte {
	h.Type = bpf.RecordSample
	h.ProcessLength, h.KernelLength = uint32(len(p.head)), uint32(len(p.kernel))
	h.BoundaryLength, h.C_stackLength = uint32(len(p.boundary)), uint32(len(p.cStack))
	h.RootLength, h.TopLength = uint32(len(p.root)), uint32(len(p.top))
	h.TermsLength, h.CallersLength = uint32(len(p.terms)), uint32(len(p.callers))
	raw := slices.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&h)), unsafe.Sizeof(h)))
	return slices.Concat(raw, p.head, p.kernel, p.boundary, p.cStack, p.root, p.top, p.terms, p.callers)
}

// FuzzRecord cuts any bytes into the parts of a record: none is outside of them.
func FuzzRecord(f *testing.F) {
	f.Add([]byte{})
	f.Add(encode(bpf.Header{}, parts{}))
	f.Add(encode(bpf.Header{}, parts{make([]byte, 512), make([]byte, 16), make([]byte, 64), []byte{1}, make([]byte, 80), nil, make([]byte, termSize), nil}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r record
		before := len(raw)
		if err := r.parse(raw); err != nil {
			return
		}
		size := int(unsafe.Sizeof(r.Header))
		for _, part := range [][]byte{r.head, r.kernel, r.boundary, r.cStack, r.root, r.top, r.terms, r.callers} {
			if len(part) != cap(part) {
				t.Fatal("a part can grow into the next one")
			}
			size += len(part)
		}
		if size > before {
			t.Fatalf("%d bytes of %d", size, before)
		}
	})
}

// The words of a fuzzed record that have these upper bits stand for addresses and
// terms of the VM at hand, which differ from run to run.
const (
	placeholder     = 0xfeed << 48
	placeholderMask = 0xffff << 48
)

// FuzzDecode takes any record for one of a real VM: words in it point to its
// code, its stacks and its terms. Decoding must end, and name no more than there is.
func FuzzDecode(f *testing.F) {
	testsupport.RequireRoot(f)
	vm := testsupport.StartVM(f, testsupport.Options{Flags: []string{"+S", "1"}})
	target, err := beam.Attach(vm.PID)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { target.Close() })
	space, err := native.Open(vm.PID)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { space.Close() })
	decoder := newDecoder(target, space)
	values := addSeeds(f, target)
	f.Fuzz(func(t *testing.T, raw []byte) {
		raw = slices.Clone(raw)
		for at := 0; at+8 <= len(raw); at += 8 {
			if word := binary.LittleEndian.Uint64(raw[at:]); word&placeholderMask == placeholder {
				offset := word >> 32 & 0xff // near the value, too
				binary.LittleEndian.PutUint64(raw[at:], values[int(word&0xffffffff)%len(values)]+offset)
			}
		}
		var r record
		if r.parse(raw) != nil {
			return
		}
		checkDecoded(t, &r, decoder.decode(&r))
	})
}

// checkDecoded checks that a sample can be handed on.
func checkDecoded(t *testing.T, r *record, s *collector.Sample) {
	t.Helper()
	most := len(r.kernel)/8 + len(r.cStack)/8 + len(r.root)/8 + len(r.top)/8 + 64
	if len(s.Stack) > most {
		t.Fatalf("%d frames of %d words", len(s.Stack), most)
	}
	for _, f := range s.Stack {
		if f == nil || f.Kind != collector.FrameKernel && f.Function == "" {
			t.Fatalf("frame %+v", f)
		}
	}
	texts := []string{s.Request, s.RequestType, s.OnBehalfOf}
	if s.Process != nil {
		texts = append(texts, s.Process.Name, s.Process.Kind, s.Process.InitialCall, s.Process.PID)
	}
	for _, c := range s.Callers {
		if c.Process == nil {
			t.Fatal("a caller that is none")
		}
		texts = append(texts, c.Request, c.Process.Name)
	}
	for _, text := range texts {
		if !utf8.ValidString(text) || label(text) != text {
			t.Fatalf("%q cannot be shown", text)
		}
	}
}

// addSeeds adds records of processes of the VM as they are, waiting, and returns
// the values that placeholders in them stand for.
func addSeeds(f *testing.F, target *beam.Target) (values []uint64) {
	f.Helper()
	layout := &target.Layout.Process
	numbers := map[uint64]uint64{}
	symbolic := func(bytes []byte) []byte {
		out := slices.Clone(bytes)
		for at := 0; at+8 <= len(out); at += 8 {
			word := binary.LittleEndian.Uint64(out[at:])
			if word < 1<<16 {
				continue
			}
			number, ok := numbers[word]
			if !ok {
				number = uint64(len(values))
				numbers[word], values = number, append(values, word)
			}
			binary.LittleEndian.PutUint64(out[at:], placeholder|number)
		}
		return out
	}
	slot := target.ProcessSlots()
	for i := uint64(0); i < 128; i++ {
		address, err := target.Memory.Uint64(slot + 8*i)
		head := make([]byte, bpf.HeadSize)
		if err != nil || address == 0 || target.Memory.Read(head, address) != nil {
			continue
		}
		stop, end := wordAt(head, layout.Stop), wordAt(head, layout.HEnd)
		if end < stop || end-stop > 4096 {
			continue
		}
		root := make([]byte, end-stop)
		if target.Memory.Read(root, stop) != nil {
			continue
		}
		terms := copyTerms(target, root)
		var caller bpf.Caller
		caller.Process, caller.Stack = address, stop
		caller.StackLength, caller.TermsLength = uint32(len(root)), uint32(len(terms))
		copy(caller.Head[:], head)
		callers := slices.Concat(unsafe.Slice((*byte)(unsafe.Pointer(&caller)), unsafe.Sizeof(caller)), root, terms)
		header := bpf.Header{Pid: uint32(target.PID), Tid: uint32(target.Schedulers[0].TID), Process: address, ErlangRoot: stop}
		f.Add(symbolic(encode(header, parts{head: head, root: root, terms: terms, callers: callers})))
		header.Flags = bpf.SampleNoRegisters | bpf.SampleKernel
		f.Add(symbolic(encode(header, parts{head: head, kernel: root, boundary: root, cStack: root, root: root, terms: terms})))
	}
	if len(values) == 0 {
		f.Fatal("no process could be read")
	}
	return values
}

// copyTerms copies what the words of a stack point to, as the kernel side does.
func copyTerms(target *beam.Target, stack []byte) (terms []byte) {
	for at := 0; at+8 <= len(stack); at += 8 {
		word := binary.LittleEndian.Uint64(stack[at:])
		if word&primaryTag != tagList && word&primaryTag != tagBoxed {
			continue
		}
		term := make([]byte, termSize)
		binary.LittleEndian.PutUint64(term, word)
		if target.Memory.Read(term[8:], word&^7) == nil {
			terms = append(terms, term...)
		}
	}
	return terms
}
