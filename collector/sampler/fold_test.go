package sampler

import (
	"slices"
	"strings"
	"testing"

	"github.com/beamprof/beamprof/collector"
)

// stackOf makes a stack of one frame per letter, the same frame for the same letter.
func stackOf(letters string, made map[rune]*collector.Frame) (stack []*collector.Frame) {
	for _, letter := range letters {
		if made[letter] == nil {
			made[letter] = &collector.Frame{Kind: collector.FrameErlang, Function: string(letter)}
		}
		stack = append(stack, made[letter])
	}
	return stack
}

func names(stack []*collector.Frame) string {
	var all []string
	for _, f := range stack {
		all = append(all, f.Function)
	}
	return strings.Join(all, "")
}

func TestFold(t *testing.T) {
	for _, test := range []struct{ stack, want string }{
		{"", ""},
		{"abc", "abc"},
		{"aaaa", "aaaa"},
		{"aaaaab", "aaaa(a)b"},
		{"x" + strings.Repeat("a", 100) + "yz", "xaaaa(a)yz"},
		{"x" + strings.Repeat("ab", 100) + "yz", "xabababab(a)yz"},
		{"x" + strings.Repeat("ab", 100) + "ayz", "xabababab(a)ayz"},
		{strings.Repeat("aab", 9), "aabaabaabaab(a)"},
		{strings.Repeat("abcdefg", 9), strings.Repeat("abcdefg", 9)},
		{strings.Repeat("a", 9) + strings.Repeat("b", 9), "aaaa(a)bbbb(b)"},
	} {
		folded := func(f *collector.Frame) *collector.Frame {
			return &collector.Frame{Function: "(" + f.Function + ")"}
		}
		if got := names(fold(stackOf(test.stack, map[rune]*collector.Frame{}), folded)); got != test.want {
			t.Errorf("fold(%q) = %q, want %q", test.stack, got, test.want)
		}
	}
}

func TestRecursionGoesOn(t *testing.T) {
	for _, test := range []struct {
		upper, lower string
		skip         int
		ok           bool
	}{
		{"xaaaaaaaa", "aab", 0, true},
		{"xabababababab", "ababz", 0, true},
		{"xabababababab", "babz", 1, true},
		{"xaaaaaaaa", "bz", 0, false},
		{"xyz", "xyz", 0, false},
		{"aaaaaaa", "", 0, false},
	} {
		made := map[rune]*collector.Frame{}
		skip, ok := goesOn(stackOf(test.upper, made), stackOf(test.lower, made))
		if ok != test.ok || ok && skip != test.skip {
			t.Errorf("goesOn(%q, %q) = %d, %v", test.upper, test.lower, skip, ok)
		}
	}
}

func TestParseCPUList(t *testing.T) {
	for list, want := range map[string][]int{"0": {0}, "0-3": {0, 1, 2, 3}, "0,2-3,7": {0, 2, 3, 7}} {
		if got, err := parseCPUList(list); err != nil || !slices.Equal(got, want) {
			t.Errorf("parseCPUList(%q) = %v, %v", list, got, err)
		}
	}
	for _, list := range []string{"", "a", "3-1", "-1", "1-", "0-99999999"} {
		if got, err := parseCPUList(list); err == nil {
			t.Errorf("parseCPUList(%q) = %v, want an error", list, got)
		}
	}
}
