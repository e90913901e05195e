package beam

import (
	"encoding/binary"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// Every atom of the VM, by its index and by its text.
func TestAllAtoms(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{})
	// Atoms of every length and alphabet, among them the longest.
	vm.Eval(t, `_ = [list_to_atom("zoo" ++ integer_to_list(I)) || I <- lists:seq(1, 5000)], `+
		`_ = [list_to_atom(lists:duplicate(255, C)) || C <- [$a, $', 0, 233, 8364, 128512]], `+
		`_ = [list_to_atom([A, B]) || A <- [1, 127, 128, 191, 192, 255, 256], B <- [1, 127, 128, 191, 192, 255, 256]], ok`)
	target := attachTo(t, vm)
	count := vm.EvalInt(t, "erlang:system_info(atom_count)")
	texts := vm.EvalBytes(t, `[begin A = binary_to_term(<<131, 75, I:24>>), T = atom_to_binary(A), [integer_to_list(byte_size(T)), $:, T] end || I <- lists:seq(0, erlang:system_info(atom_count) - 1)]`)
	compared := int64(0)
	for ; len(texts) > 0 && compared < count; compared++ {
		length, rest, _ := strings.Cut(string(texts[:min(5, len(texts))]), ":")
		n, err := strconv.Atoi(length)
		if err != nil {
			t.Fatalf("%q %q", length, rest)
		}
		want := string(texts[len(length)+1:][:n])
		texts = texts[len(length)+1+n:]
		term := atomTerm(uint64(compared))
		if got, ok := target.Atom(term); !ok || got != want {
			t.Errorf("atom %d is %q, %v, not %q", compared, got, ok, want)
		}
		if want == "3RT$" {
			continue // ErtsSecretAtom, which the VM hides from its own look-ups by text (atom.c)
		}
		if got, ok := target.AtomNamed(want); !ok || got != term {
			t.Errorf("%q is %#x, %v, not %#x", want, got, ok, term)
		}
	}
	t.Logf("%d atoms compared", compared)
	if compared < 10000 {
		t.Errorf("only %d atoms compared", compared)
	}
	for _, term := range []uint64{atomTerm(1 << 20), atomTerm(1 << 40), 1<<63 | tagAtom, smallTerm(1), 0} {
		if text, ok := target.Atom(term); ok {
			t.Errorf("%#x is atom %q", term, text)
		}
	}
	if term, ok := target.AtomNamed("no such atom in this VM"); ok {
		t.Errorf("an unknown atom is %#x", term)
	}
}

func TestAtomsMadeLater(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{})
	target := attachTo(t, vm)
	if _, ok := target.AtomNamed("zoo_later_2000"); ok {
		t.Fatal("found before it was made")
	}
	vm.Eval(t, `_ = [list_to_atom("zoo_later_" ++ integer_to_list(I)) || I <- lists:seq(1, 2000)], ok`)
	term, ok := target.AtomNamed("zoo_later_2000")
	if text, found := target.Atom(term); !ok || !found || text != "zoo_later_2000" {
		t.Errorf("%#x, %v, is %q, %v", term, ok, text, found)
	}
}

func FuzzAtomTable(f *testing.F) {
	seed := make([]byte, 256)
	binary.NativeEndian.PutUint32(seed[layoutOTP25JITAMD64.AtomTable.Entries:], 1000)
	binary.NativeEndian.PutUint64(seed[layoutOTP25JITAMD64.AtomTable.Segments:], 0x2000)
	f.Add(seed, uint64(0x1000), atomTerm(0), "init")
	f.Add([]byte{0}, uint64(0), uint64(0), "")
	f.Add([]byte("hostile!"), uint64(0x1000), atomTerm(77), "h\xc3\xa4")
	f.Fuzz(func(t *testing.T, data []byte, at, term uint64, text string) {
		h := &hostile{data: data}
		atoms := newAtomTable(h, &layoutOTP25JITAMD64, at)
		if got, err := atoms.lookup(term); err == nil && (!utf8.ValidString(got) || len(got) > maxAtomBytes) {
			t.Errorf("atom %q", got)
		}
		if found, err := atoms.find(text); err == nil {
			if got, err := atoms.lookup(found); err == nil && got != text && IsAtom(found) {
				t.Logf("%q found as %#x, which is %q", text, found, got) // the table contradicts itself
			}
		}
		if h.reads > 3*maxAtomChain {
			t.Errorf("%d reads", h.reads)
		}
	})
}
