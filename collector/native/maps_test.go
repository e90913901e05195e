package native

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseMaps(t *testing.T) {
	const text = `562db6145000-562db63d0000 r-xp 00066000 fe:00 753976                     /usr/lib/erlang/bin/beam.smp
562db63d0000-562db64c0000 r--p 002f1000 fe:00 753976                     /usr/lib/erlang/bin/beam.smp
7fadf23ff000-7fadf2bff000 r-xs 00000000 00:01 1117                       /memfd:vmem (deleted)
7fae34564000-7fae346ba000 r-xp 00026000 103:0a 18446744073709551615      /opt/two  blanks/a\012b.so (deleted)
7fae34700000-7fae34701000 rwxp 00000000 00:00 0 
7fae34b34000-7fae34b36000 r-xp 00000000 00:00 0                          [vdso]
7ffd25b00000-7ffd25b21000 rw-p 00000000 00:00 0                          [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`
	got, bits, err := parseMaps([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []mapLine{
		{0x562db6145000, 0x562db63d0000, 0x66000, fileID{0xfe, 0, 753976}, "/usr/lib/erlang/bin/beam.smp", false},
		{0x7fadf23ff000, 0x7fadf2bff000, 0, fileID{0, 1, 1117}, "/memfd:vmem", true},
		{0x7fae34564000, 0x7fae346ba000, 0x26000, fileID{0x103, 0xa, 1<<64 - 1}, "/opt/two  blanks/a\nb.so", true},
		{0x7fae34b34000, 0x7fae34b36000, 0, fileID{}, "[vdso]", false},
		{0xffffffffff600000, 0xffffffffff601000, 0, fileID{}, "[vsyscall]", false},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mapLine{}, fileID{})); diff != "" {
		t.Error(diff)
	}
	if bits != 47 {
		t.Errorf("user addresses have %d bits", bits)
	}
}

func TestParseMapsRejectsOtherText(t *testing.T) {
	for _, text := range []string{
		"x", "1000-2000", "1000-2000 r-xp", "1000-2000 r-xp 0 0:0", "2000-1000 r-xp 0 0:0 0 /a", "1000-2000 rx 0 0:0 0 /a",
		"1000-2000 r-xp 0 00 0 /a", "1000-2000 r-xp 0 0:0 a /a", "-2000 r-xp 0 0:0 0 /a", "g-2000 r-xp 0 0:0 0 /a",
	} {
		if lines, _, err := parseMaps([]byte(text + "\n")); !errors.Is(err, errMapsFormat) {
			t.Errorf("%q: %v, %v", text, lines, err)
		}
	}
}

func FuzzParseMaps(f *testing.F) {
	f.Add([]byte("562db6145000-562db63d0000 r-xp 00066000 fe:00 753976     /usr/lib/erlang/bin/beam.smp\n"))
	f.Add([]byte("7fae34564000-7fae346ba000 rwxs 0 103:0a 18446744073709551615 /a\\012b (deleted)\n\n"))
	f.Add([]byte("7fae34700000-7fae34701000 --xp 00000000 00:00 0"))
	f.Fuzz(func(t *testing.T, text []byte) {
		lines, bits, err := parseMaps(text)
		if err != nil && lines != nil || bits < 0 || bits > 64 {
			t.Fatal(lines, bits, err)
		}
		for _, l := range lines {
			if l.start >= l.limit || l.path == "" {
				t.Fatalf("%+v", l)
			}
		}
	})
}
