package jit

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// The VM's names, as BeamModuleAssembler::register_metadata makes them
// (erts/emulator/beam/jit/beam_jit_common.cpp, OTP 25.2.3): "%T:%T/%d" for a
// function, with atoms in single quotes where they need them, the same with a
// suffix for what stands before its code, and the bare name of the module with
// a suffix for what stands before and after all functions.
const (
	prologueSuffix = "-CodeInfoPrologue"
	headerSuffix   = "::codeHeader"
	footerSuffix   = "::codeFooter"

	// The VM's global code: a symfile for the module "global", with fragments
	// named "global::...". OTP has a module of that name, too.
	globalModule   = "global"
	fragmentPrefix = "global::"
)

// kindOf tells what the VM's name of a range in a module stands for; base is
// the name without a prologue's suffix.
func kindOf(module, raw string) (kind Kind, base string) {
	if base, ok := strings.CutSuffix(raw, prologueSuffix); ok {
		return KindPrologue, base
	}
	if name, ok := strings.CutSuffix(raw, headerSuffix); ok && name == module {
		return KindHeader, raw
	}
	if name, ok := strings.CutSuffix(raw, footerSuffix); ok && name == module {
		return KindFooter, raw
	}
	if module == globalModule && strings.HasPrefix(raw, fragmentPrefix) {
		return KindFragment, raw
	}
	return KindFunction, raw
}

// displayName returns the name of a function for people. Erlang's are left as
// the VM writes them, which is how Erlang writes them everywhere:
// lists:map/2, erlang:'+'/2, vmq_swc_store:'-handle_call/3-fun-4-'/1. Those of
// Elixir's modules are written as Elixir does.
func displayName(module, raw string) string {
	if isElixir(module) {
		if function, arity, ok := cutFunction(module, raw); ok {
			return clean(elixirFunction(module, function, arity))
		}
	}
	return clean(raw)
}

// cutFunction takes the VM's name of a module's function apart.
func cutFunction(module, raw string) (function, arity string, ok bool) {
	name, rest, ok := cutAtom(raw, ':')
	if !ok || name != module {
		return "", "", false
	}
	function, arity, ok = cutAtom(rest, '/')
	if _, err := strconv.ParseUint(arity, 10, 8); !ok || err != nil {
		return "", "", false
	}
	return function, arity, true
}

// cutAtom takes an atom and the separator after it off s. Only an atom in
// quotes can contain the separator.
func cutAtom(s string, separator byte) (atom, rest string, ok bool) {
	if !strings.HasPrefix(s, "'") {
		return strings.Cut(s, string(separator))
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '\'':
			if i+1 == len(s) || s[i+1] != separator {
				return "", "", false
			}
			return unescape(s[1:i]), s[i+2:], true
		}
	}
	return "", "", false
}

// escapes are the ones that print_atom_name writes with a letter
// (erts/emulator/beam/erl_printf_term.c, OTP 25.2.3); other control characters
// have three octal digits.
var escapes = map[byte]byte{'n': '\n', 'f': '\f', 't': '\t', 'r': '\r', 'b': '\b', 'v': '\v'}

// unescape returns the text of an atom that stood in quotes.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		i++
		if code, err := strconv.ParseUint(s[i:min(i+3, len(s))], 8, 8); err == nil && i+3 <= len(s) {
			b = utf8.AppendRune(b, rune(code))
			i += 2
		} else if c, ok := escapes[s[i]]; ok {
			b = append(b, c)
		} else {
			b = append(b, s[i])
		}
	}
	return string(b)
}

// clean returns s as valid UTF-8 that prints: everything else, which could
// steer a terminal, becomes U+FFFD.
func clean(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return strings.Map(printable, s)
		}
	}
	return s
}

func printable(r rune) rune {
	if strconv.IsPrint(r) {
		return r
	}
	return utf8.RuneError
}
