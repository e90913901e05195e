package distribution

import (
	"errors"
	"testing"
)

func TestFindStore(t *testing.T) {
	r15 := []byte{0x41, 0xc7, 0x87, 0x94, 0, 0, 0, 5, 0, 0, 0}
	rbx := []byte{0xc7, 0x83, 0x94, 0, 0, 0, 5, 0, 0, 0}
	r12 := []byte{0x41, 0xc7, 0x84, 0x24, 0x94, 0, 0, 0, 5, 0, 0, 0}
	join := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	nop := []byte{0x90}
	for name, test := range map[string]struct {
		code []byte
		want site
		ok   bool
	}{
		"r15":              {join(nop, r15, nop), site{1, 5}, true},
		"rbx":              {join(rbx), site{0, 0}, true},
		"r12":              {join(nop, nop, r12), site{2, 2}, true},
		"with a jump":      {join(r15, []byte{0x7f, 0x0d}), site{11, 5}, true},
		"with a far jump":  {join(rbx, []byte{0x0f, 0x8e, 0, 0, 0, 0}), site{10, 0}, true},
		"with a cut jump":  {join(rbx, []byte{0x0f, 0x8e}), site{0, 0}, true},
		"another constant": {[]byte{0x41, 0xc7, 0x87, 0x94, 0, 0, 0, 4, 0, 0, 0}, site{}, false},
		"another offset":   {[]byte{0x41, 0xc7, 0x87, 0x98, 0, 0, 0, 5, 0, 0, 0}, site{}, false},
		"rax is not saved": {[]byte{0xc7, 0x80, 0x94, 0, 0, 0, 5, 0, 0, 0}, site{}, false},
		"twice":            {join(r15, rbx), site{}, false},
		"cut":              {r15[:8], site{}, false},
		"nothing":          {nil, site{}, false},
	} {
		got, err := findStore(test.code, 0x94, 5)
		if got != test.want || (err == nil) != test.ok || err != nil && !errors.Is(err, errNoSite) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestEntry(t *testing.T) {
	push := []byte{0x41, 0x57}
	for _, test := range []struct {
		code []byte
		want uint64
	}{{push, 0}, {append(endbr64[:4:4], push...), 4}, {endbr64[:3], 0}, {nil, 0}} {
		if got := entry(test.code); got != test.want {
			t.Errorf("% x: %d, not %d", test.code, got, test.want)
		}
	}
}

func FuzzFindStore(f *testing.F) {
	f.Add([]byte{0x41, 0xc7, 0x87, 0x94, 0, 0, 0, 5, 0, 0, 0})
	f.Fuzz(func(t *testing.T, code []byte) {
		if got, err := findStore(code, 0x94, 5); err == nil && got.offset >= uint64(len(code)) {
			t.Errorf("%+v in %d bytes", got, len(code))
		}
	})
}
