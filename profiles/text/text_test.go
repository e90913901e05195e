package text

import (
	"strconv"
	"testing"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"vmq_ranch:init/4", "vmq_ranch:init/4"},
		{"Größe:φ/1", "Größe:φ/1"},
		{"a\x1b[31mb", "a\uFFFD[31mb"},
		{"a\nb\tc", "a\uFFFDb\uFFFDc"},
		{"a\xff\xfeb", "a\uFFFD\uFFFDb"},
		{"a\u202Eb", "a\uFFFDb"}, // right-to-left override
		{"a\u009bb", "a\uFFFDb"}, // C1 control sequence introducer
	} {
		if got := Clean(c.in); got != c.want {
			t.Errorf("Clean(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestFit(t *testing.T) {
	for _, c := range []struct {
		in    string
		width int
		want  string
	}{
		{"short", 5, "short"},
		{"vmq_swc_store:handle_call/3", 12, "vmq_s…call/3"},
		{"abcdef", 1, "a"},
		{"abcdef", 0, ""},
		{"abcdef", -3, ""},
		{"漢字漢字漢字", 7, "漢…漢字"},
	} {
		if got := Fit(c.in, c.width, "…"); got != c.want {
			t.Errorf("Fit(%q, %d) = %q, want %q", c.in, c.width, got, c.want)
		}
	}
}

func TestPad(t *testing.T) {
	if got := Pad("漢", 4); got != "漢  " {
		t.Errorf("Pad = %q", got)
	}
	if got := Pad("abc", 2); got != "abc" {
		t.Errorf("Pad = %q", got)
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1bb", 3)
	f.Add("漢\xffx\u200d", 2)
	f.Fuzz(func(t *testing.T, s string, width int) {
		clean := Clean(s)
		if !utf8.ValidString(clean) {
			t.Fatalf("Clean(%q) is not UTF-8", s)
		}
		for _, r := range clean {
			if !strconv.IsPrint(r) && r != utf8.RuneError {
				t.Fatalf("Clean(%q) keeps %q", s, r)
			}
		}
		if Clean(clean) != clean {
			t.Fatalf("Clean is not idempotent for %q", s)
		}
		if got := Fit(clean, width, "~"); Width(got) > max(width, 0) {
			t.Fatalf("Fit(%q, %d) = %q takes %d columns", clean, width, got, Width(got))
		}
	})
}
