package native

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"testing"
)

// vdsoImage is a small object that every machine has: the test's own vdso.
func vdsoImage(t testing.TB) []byte {
	t.Helper()
	s := open(t, os.Getpid())
	for _, r := range s.regions {
		if r.path == vdsoName {
			image := make([]byte, r.limit-r.start)
			if err := s.memory.Read(image, r.start); err != nil {
				t.Fatal(err)
			}
			return image
		}
	}
	t.Skip("this process has no vdso")
	return nil
}

func TestVDSO(t *testing.T) {
	o, err := newObject(bytes.NewReader(vdsoImage(t)), vdsoName, &hostArchitecture)
	if err != nil {
		t.Fatal(err)
	}
	vaddr, ok := o.lookup("__vdso_clock_gettime")
	if !ok {
		vaddr, ok = o.lookup("__kernel_clock_gettime") // arm64
	}
	if !ok {
		t.Fatal("no clock_gettime")
	}
	if name, start, ok := o.symbol(vaddr); !ok || start != vaddr {
		t.Errorf("%s from %#x, %v", name, start, ok)
	}
	if f, err := o.frame(vaddr); err != nil || f.start > vaddr {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestBuildID(t *testing.T) {
	note := func(name string, kind uint32, descriptor string) []byte {
		b := binary.LittleEndian.AppendUint32(nil, uint32(len(name)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(descriptor)))
		b = append(binary.LittleEndian.AppendUint32(b, kind), name...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		b = append(b, descriptor...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		return b
	}
	id := note("GNU\x00", 3, "\x01\x02\xff")
	for name, test := range map[string]struct {
		notes []byte
		want  string
	}{
		"alone": {id, "0102ff"}, "without padding": {id[:len(id)-1], "0102ff"},
		"behind others": {append(append(note("GNU\x00", 1, "12345"), note("Go\x00\x00", 4, "x")...), id...), "0102ff"},
		"other":         {note("GNU\x00", 1, "123"), ""}, "empty": {nil, ""}, "cut off": {id[:len(id)-3], ""},
		"huge": {[]byte{255, 255, 255, 255, 255, 255, 255, 255, 3, 0, 0, 0}, ""},
	} {
		if got := findBuildID(bytes.NewReader(test.notes), 0, uint64(len(test.notes)), 4); got != test.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestBias(t *testing.T) {
	page := uint64(os.Getpagesize())
	o := &object{segments: []elf.ProgHeader{
		{Flags: elf.PF_R, Off: 0, Vaddr: 0, Filesz: 2 * page},
		{Flags: elf.PF_R | elf.PF_X, Off: 2*page + 0x100, Vaddr: 5*page + 0x100, Filesz: 4 * page},
	}}
	for name, test := range map[string]struct {
		start, offset, want uint64
		ok                  bool
	}{
		"position independent": {0x7f0000000000, 2 * page, 0x7f0000000000 - 5*page, true},
		"fixed":                {5 * page, 2 * page, 0, true},
		"below its addresses":  {page, 2 * page, page - 5*page, true},
		"second part":          {0x7f0000000000, 4 * page, 0x7f0000000000 - 7*page, true},
		"data":                 {0x7f0000000000, 0, 0, false},
	} {
		if bias, ok := o.bias(test.start, test.offset); ok != test.ok || bias != test.want {
			t.Errorf("%s: %#x, %v", name, bias, ok)
		}
	}
}

func TestNotObjects(t *testing.T) {
	other := bytes.Clone(vdsoImage(t))
	binary.LittleEndian.PutUint16(other[18:], uint16(elf.EM_SPARCV9))
	for name, test := range map[string]struct {
		image []byte
		want  error
	}{
		"empty": {nil, errNotELF}, "text": {[]byte("#!/bin/sh"), errNotELF}, "other architecture": {other, errOther},
	} {
		if _, err := newObject(bytes.NewReader(test.image), name, &hostArchitecture); err != test.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := newObject(bytes.NewReader([]byte("\x7fELF")), "cut off", &hostArchitecture); err == nil {
		t.Error("a header without the rest is an object")
	}
}

// Whatever a file, the registers and the stack hold, looking at them ends.
func FuzzObject(f *testing.F) {
	image := vdsoImage(f)
	o, err := newObject(bytes.NewReader(image), vdsoName, &hostArchitecture)
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"__vdso_clock_gettime", "__vdso_getcpu", "__kernel_clock_gettime"} {
		if vaddr, ok := o.lookup(name); ok {
			f.Add(image, vaddr, bytes.Repeat([]byte{0, 1, 2, 0, 0, 0, 0, 0}, 8))
		}
	}
	f.Fuzz(func(t *testing.T, image []byte, vaddr uint64, stack []byte) {
		o, err := newObject(bytes.NewReader(image), "fuzz", &hostArchitecture)
		if err != nil {
			return
		}
		s := spaceOf(o, 0)
		regs := Registers{PC: vaddr, SP: 0x7000, Valid: 1<<registerCount - 1}
		pcs, _ := s.Unwind(&regs, Stack{Base: 0x7000, Bytes: stack}, nil, nil)
		for i, pc := range pcs {
			if s.Symbol(pc, i == 0).Name == "" {
				t.Errorf("no name for %#x", pc)
			}
		}
		o.lookup("__vdso_getcpu")
	})
}
