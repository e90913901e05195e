package memory

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// self reads the test's own memory: what is there is known, and no second process is needed.
func self(t testing.TB) *Process {
	t.Helper()
	p, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// page maps one readable page that is followed by an unreadable one.
func page(t testing.TB) []byte {
	t.Helper()
	size := os.Getpagesize()
	m, err := unix.Mmap(-1, 0, 2*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(m) })
	// unix.Munmap takes whole mappings only; the kernel takes half a one.
	if _, _, errno := unix.Syscall(unix.SYS_MUNMAP, address(m)+uintptr(size), uintptr(size), 0); errno != 0 {
		t.Fatal(errno)
	}
	return m[:size:size]
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

func TestReadWords(t *testing.T) {
	p, m := self(t), page(t)
	at := uint64(address(m))
	copy(m, []byte{1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0})
	if v, err := p.Uint64(at); err != nil || v != 0x2_0000_0001 {
		t.Errorf("Uint64 = %#x, %v", v, err)
	}
	if v, err := p.Uint32(at + 4); err != nil || v != 2 {
		t.Errorf("Uint32 = %#x, %v", v, err)
	}
	var words [2]uint64
	if err := p.Words(words[:], at); err != nil || words != [2]uint64{0x2_0000_0001, 3} {
		t.Errorf("Words = %#x, %v", words, err)
	}
	runtime.KeepAlive(m)
}

func TestReadIsAllOrError(t *testing.T) {
	p, m := self(t), page(t)
	at, size := uint64(address(m)), uint64(len(m))
	for name, r := range map[string]struct{ at, n uint64 }{
		"across the end":   {at + size - 8, 16},
		"behind the end":   {at + size, 1},
		"null":             {0, 8},
		"not canonical":    {1 << 62, 8},
		"kernel half":      {0xffff_ffff_8000_0000, 8},
		"address wraps":    {^uint64(0) - 3, 8},
		"ends at 2^63":     {1<<63 - 8, 8},
		"end of user half": {1<<47 - 4, 8},
	} {
		if err := p.Read(make([]byte, r.n), r.at); !errors.Is(err, ErrUnreadable) || errors.Is(err, ErrExited) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if err := p.Read(nil, 0); err != nil {
		t.Errorf("reading nothing: %v", err)
	}
	if err := p.Read(make([]byte, size), at); err != nil {
		t.Errorf("a whole page: %v", err)
	}
}

func TestString(t *testing.T) {
	p, m := self(t), page(t)
	at := uint64(address(m))
	for _, n := range []int{0, 1, 63, 64, 65, 200} {
		for _, shift := range []int{0, 1, 63} {
			copy(m[shift:], bytes.Repeat([]byte{'x'}, n))
			m[shift+n] = 0
			want := strings.Repeat("x", n)
			if s, err := p.String(at+uint64(shift), n); err != nil || s != want {
				t.Errorf("length %d at +%d: %q, %v", n, shift, s, err)
			}
			if n > 0 {
				if s, err := p.String(at+uint64(shift), n-1); !errors.Is(err, ErrUnreadable) {
					t.Errorf("length %d, limit %d: %q, %v", n, n-1, s, err)
				}
			}
		}
	}
	// A string that ends with the page's last byte; and one that never ends.
	end := len(m) - 3
	copy(m[end:], "ab\x00")
	if s, err := p.String(at+uint64(end), 100); err != nil || s != "ab" {
		t.Errorf("at the end of the page: %q, %v", s, err)
	}
	copy(m[end:], "abc")
	if s, err := p.String(at+uint64(end), 100); !errors.Is(err, ErrUnreadable) {
		t.Errorf("without an end: %q, %v", s, err)
	}
}

func TestExited(t *testing.T) {
	sleep := exec.Command("sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := Open(sleep.Process.Pid)
	sleep.Process.Kill()
	sleep.Wait()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Read(make([]byte, 8), 0x1000); !errors.Is(err, ErrExited) || !errors.Is(err, ErrUnreadable) {
		t.Errorf("error %v", err)
	}
	if _, err := Open(sleep.Process.Pid); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("open of a gone process: %v", err)
	}
}

func BenchmarkRead(b *testing.B) {
	p := self(b)
	source := make([]byte, 64<<10)
	for _, size := range []int{8, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			buf := make([]byte, size)
			for b.Loop() {
				if err := p.Read(buf, uint64(address(source))); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(size))
		})
	}
}
