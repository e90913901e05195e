package beam

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// elixirPrefix begins the atoms of Elixir's modules, which Elixir writes without it.
const elixirPrefix = "Elixir."

// atomName returns an atom for people: without quotes, and Elixir's modules as
// Elixir writes them.
func atomName(text string) string {
	if rest, ok := strings.CutPrefix(text, elixirPrefix); ok && rest != "" {
		text = rest
	}
	return printable(text)
}

// printable replaces what does not print, and could steer a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, text)
}

// knownNames is how many names of functions are remembered.
const knownNames = 1 << 12

// name returns a function as frames of the JIT are named: "lists:map/2", "Enum.map/2".
func (t *Target) name(f mfa) (string, bool) {
	if name, ok := t.names.Get(f); ok {
		return name, true
	}
	module, ok := t.Atom(f.module)
	if !ok {
		return "", false
	}
	function, ok := t.Atom(f.function)
	if !ok || f.arity > maxArity {
		return "", false
	}
	name := functionName(module, function, f.arity)
	t.names.Add(f, name)
	return name, true
}

// functionName writes a function as Erlang or, for a module of Elixir's, Elixir does.
func functionName(module, function string, arity uint64) string {
	if rest, ok := strings.CutPrefix(module, elixirPrefix); ok && rest != "" {
		return printable(fmt.Sprintf("%s.%s/%d", rest, function, arity))
	}
	return printable(fmt.Sprintf("%s:%s/%d", quoteAtom(module), quoteAtom(function), arity))
}

// quoteAtom writes an atom as the VM does, which is how the JIT's names have
// it (print_atom_name in erl_printf_term.c, 23 to 27): in quotes unless it
// begins with a lower case letter of Latin-1 and goes on with Latin-1 letters,
// digits and underscores.
func quoteAtom(text string) string {
	plain := text != ""
	for i, r := range text {
		letter := r < 0x100 && unicode.IsLetter(r) && r != 'ª' && r != 'º' && r != 'µ'
		if i == 0 {
			plain = letter && unicode.IsLower(r)
		} else {
			plain = plain && (letter || r >= '0' && r <= '9' || r == '_')
		}
	}
	var b strings.Builder
	for _, r := range text {
		switch i := strings.IndexRune("'\\\n\f\t\r\b\v", r); {
		case i >= 0:
			b.WriteByte('\\')
			b.WriteByte(`'\nftrbv`[i])
		case r < ' ' || r >= 0x80 && r < 0xa0:
			fmt.Fprintf(&b, `\%03o`, r)
		default:
			b.WriteRune(r)
		}
	}
	if plain {
		return b.String()
	}
	return "'" + b.String() + "'"
}

// unquoteAtom returns the text of an atom that the VM wrote.
func unquoteAtom(text string) string {
	if len(text) < 2 || text[0] != '\'' || text[len(text)-1] != '\'' {
		return text
	}
	return strings.NewReplacer(`\\`, `\`, `\'`, `'`).Replace(text[1 : len(text)-1])
}
