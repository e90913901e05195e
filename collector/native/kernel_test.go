package native

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

const kernelText = `ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000000 t startup
ffffffff81000100 t __pfx_one
ffffffff81000110 T one
ffffffff81000200 W two
ffffffff81000200 T __two
ffffffff81000300 D data
ffffffff81000400 T _etext
ffffffffc0200000 t in_module	[nf_tables]
ffffffffc0100000 t earlier	[xt]
ffffffffc0300000 b __key.1	[nf_tables]
`

func TestKernelSymbols(t *testing.T) {
	for name, reader := range map[string]func(string) *KernelSymbols{
		"whole": func(s string) *KernelSymbols { return mustRead(t, strings.NewReader(s)) },
		"bytes": func(s string) *KernelSymbols { return mustRead(t, iotest.OneByteReader(strings.NewReader(s))) },
		"no newline": func(s string) *KernelSymbols {
			return mustRead(t, strings.NewReader(strings.TrimSuffix(s, "\n")))
		},
	} {
		k := reader(kernelText)
		for addr, want := range map[uint64]string{
			0xffffffff80ffffff: "", 0xffffffff81000000: "_stext", 0xffffffff810000ff: "_stext",
			0xffffffff81000110: "one", 0xffffffff810001ff: "one", 0xffffffff81000210: "two",
			0xffffffff81000300: "two", 0xffffffff81000400: "", 0xffffffff81000500: "",
			0xffffffffc0100008: "earlier", 0xffffffffc0200008: "in_module", 0xffffffffffffffff: "",
		} {
			got, start, ok := k.Lookup(addr)
			if ok != (want != "") || ok && (got != want || start > addr) {
				t.Errorf("%s: %#x is %q from %#x, %v; want %q", name, addr, got, start, ok, want)
			}
		}
	}
}

func mustRead(t *testing.T, reader interface{ Read([]byte) (int, error) }) *KernelSymbols {
	t.Helper()
	k, err := readKernelSymbols(reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKernelSymbolsRestricted(t *testing.T) {
	const text = "0000000000000000 T _text\n0000000000000000 t one\n"
	if k, err := readKernelSymbols(strings.NewReader(text)); !errors.Is(err, ErrRestricted) {
		t.Errorf("%v, %v", k, err)
	}
	if k, err := readKernelSymbols(strings.NewReader("")); err == nil {
		t.Errorf("symbols of nothing: %v", k)
	}
}

// Every function that the kernel lists is found at its address, under one of
// the names that it has there.
func TestRunningKernelSymbols(t *testing.T) {
	k, err := LoadKernelSymbols()
	if errors.Is(err, ErrRestricted) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(kallsyms)
	if err != nil {
		t.Fatal(err)
	}
	names := map[uint64][]string{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		var addr uint64
		if _, err := fmt.Sscanf(fields[0], "%x", &addr); err != nil {
			t.Fatal(err)
		}
		if strings.Contains("tTwW", fields[1]) {
			names[addr] = append(names[addr], fields[2])
		}
	}
	for addr, all := range names {
		name, start, ok := k.Lookup(addr)
		// Programs of BPF come and go between the two readings.
		if endOfText(name) || strings.HasPrefix(all[0], "bpf_") || strings.HasPrefix(name, "bpf_") {
			continue
		}
		if !ok || start != addr || !strings.Contains(" "+strings.Join(all, " ")+" ", " "+name+" ") {
			t.Errorf("%#x: %q from %#x, %v; the kernel says %q", addr, name, start, ok, all)
		}
	}
	if len(names) < 1000 {
		t.Errorf("only %d functions", len(names))
	}
}

func FuzzKernelSymbols(f *testing.F) {
	f.Add([]byte(kernelText), uint64(0xffffffff81000110))
	f.Add([]byte("0 t a\n1 T b"), uint64(1))
	f.Fuzz(func(t *testing.T, text []byte, addr uint64) {
		k, err := readKernelSymbols(bytes.NewReader(text))
		if err != nil {
			return
		}
		if name, start, ok := k.Lookup(addr); ok && (start > addr || name == "") {
			t.Fatal(name, start)
		}
	})
}
