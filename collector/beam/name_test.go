package beam

import (
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// Names are written as the VM's own ~tp does for functions.
func TestQuoteAtomAsTheVM(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{})
	texts := []string{
		"lists", "map", "", "Elixir.Enum", "hello world", "-handle_call/3-fun-4-", "+", "a'b", `a\b`, "a\nb\tc\rd\fe\bf\vg",
		"\x00\x01\x1f", "\x7f", "é", "É", "aé", "a×b", "a÷b", "ß", "ÿ", "µ", "ª", "º", "aª", "aµ", "中文", "a中", "a1_2", "1a", "_a", "a@b", "😀", "\u0085", "\u00a0",
	}
	for _, text := range texts {
		var codes []string
		for _, r := range text {
			codes = append(codes, strconv.Itoa(int(r)))
		}
		// The VM's own printer, by way of an external fun: fun lists:f/0.
		want := string(vm.EvalBytes(t, "F = fun(L) -> lists:sublist(L, 5, length(L) - 8) end, iolist_to_binary(F(erlang:fun_to_list(erlang:make_fun(list_to_atom(["+strings.Join(codes, ",")+"]), f, 0))))"))
		if got := quoteAtom(text); got != want {
			t.Errorf("%q is %s, the VM writes %s", text, got, want)
		}
		if got := unquoteAtom(quoteAtom(text)); !strings.ContainsAny(text, "\n\t\r\f\b\v\x00\x01\x1f\u0085") && got != text {
			t.Errorf("%q comes back as %q", text, got)
		}
	}
}

func TestFunctionName(t *testing.T) {
	for _, test := range []struct {
		module, function string
		arity            uint64
		want             string
	}{
		{"lists", "map", 2, "lists:map/2"},
		{"vmq_swc_store", "-handle_call/3-fun-4-", 1, "vmq_swc_store:'-handle_call/3-fun-4-'/1"},
		{"Elixir.Enum", "map", 2, "Enum.map/2"},
		{"Elixir.Task.Supervised", "noreply", 4, "Task.Supervised.noreply/4"},
		{"erlang", "+", 2, "erlang:'+'/2"},
		{"\x1b[2J", "f", 0, `'\033[2J':f/0`},
	} {
		if got := functionName(test.module, test.function, test.arity); got != test.want {
			t.Errorf("%s, not %s", got, test.want)
		}
	}
	for text, want := range map[string]string{
		"rex": "rex", "Elixir.MyApp.Repo": "MyApp.Repo", "Elixir.": "Elixir.", "Elixir": "Elixir", "a b": "a b", "\x1b[31m": "\ufffd[31m",
	} {
		if got := atomName(text); got != want {
			t.Errorf("atomName(%q) = %q, not %q", text, got, want)
		}
	}
}

func FuzzAtomNames(f *testing.F) {
	f.Add("lists", "map", uint64(2))
	f.Add("Elixir.Enum", "-map/2-fun-0-", uint64(1))
	f.Add("\xff\x00'", "\\", uint64(255))
	f.Fuzz(func(t *testing.T, module, function string, arity uint64) {
		name := functionName(module, function, arity)
		if !utf8.ValidString(name) || strings.ContainsAny(name, "\x1b\n\x00") {
			t.Errorf("%q", name)
		}
		unquoteAtom(module)
	})
}
