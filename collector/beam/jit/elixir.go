package jit

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Elixir's modules are atoms that begin so; Elixir writes them without it.
const (
	elixirRoot   = "Elixir"
	elixirPrefix = "Elixir."
)

func isElixir(module string) bool {
	return strings.HasPrefix(module, elixirPrefix) || module == elixirRoot
}

// elixirFunction writes a function as Elixir's stack traces do
// (Exception.format_mfa/3, Elixir 1.14): Enum.map/2, Kernel.+/2,
// anonymous fn/1 in Enum.map/2.
func elixirFunction(module, function, arity string) string {
	module = elixirModule(module)
	if parent, parentArity, ok := elixirParent(function); ok {
		return "anonymous fn/" + arity + " in " + module + "." + elixirCall(parent) + "/" + parentArity
	}
	return module + "." + elixirCall(function) + "/" + arity
}

// elixirParent returns the function that an anonymous one was written in, from
// a name like -map/2-fun-0- (Code.Identifier.extract_anonymous_fun_parent/1).
// The text between the dashes is the compiler's: "fun" for a fn, and others.
func elixirParent(function string) (parent, arity string, ok bool) {
	rest, ok := strings.CutPrefix(function, "-")
	if !ok {
		return "", "", false
	}
	slash := strings.LastIndexByte(rest, '/')
	parts := strings.Split(rest[slash+1:], "-") // arity, "fun", number, ""
	if len(parts) != 4 || parts[3] != "" {
		return "", "", false
	}
	return rest[:max(slash, 0)], parts[0], true
}

// elixirModule writes a module name as Macro.inspect_atom(:literal, module).
func elixirModule(module string) string {
	if !isAlias(module) {
		return `:"` + escapeElixir(module) + `"`
	}
	short, ok := strings.CutPrefix(module, elixirPrefix)
	if !ok || short == elixirRoot || strings.HasPrefix(short, elixirPrefix) {
		return module // it would be read as another one
	}
	return short
}

// isAlias tells whether a module name is Elixir followed by parts that begin
// with an upper case letter, all ASCII.
func isAlias(module string) bool {
	rest, ok := strings.CutPrefix(module, elixirRoot)
	for ok && rest != "" {
		if len(rest) < 2 || rest[0] != '.' || rest[1] < 'A' || rest[1] > 'Z' {
			return false
		}
		rest = strings.TrimLeft(rest[2:], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
	}
	return ok
}

// elixirCall writes a function's name as after the dot of a call
// (Macro.inspect_atom(:remote_call, name)).
func elixirCall(name string) string {
	if elixirOperators[name] || isElixirIdentifier(name) {
		return name
	}
	return `"` + escapeElixir(name) + `"`
}

// elixirOperators can stand after a dot: Code.Identifier.unary_op/1 and
// binary_op/1 of Elixir 1.14 less the ones that Macro.inspect_atom leaves out.
var elixirOperators = func() map[string]bool {
	operators := make(map[string]bool)
	for name := range strings.FieldsSeq("! @ & ^ + - * / < > = | != && ++ -- ** <- <> <= <~ >= == =~ |> || ~> :: \\\\ !== &&& ^^^ +++ --- <<< <<~ <|> <~> >>> === ||| ~>> ~~~") {
		operators[name] = true
	}
	return operators
}()

func isElixirIdentifier(name string) bool {
	if n := len(name); n > 1 && (name[n-1] == '?' || name[n-1] == '!') {
		name = name[:n-1]
	}
	for i, r := range name {
		switch {
		case r == '_' || unicode.IsLetter(r) && (i > 0 || !unicode.IsUpper(r) && !unicode.IsTitle(r)):
		case i > 0 && (unicode.IsDigit(r) || unicode.IsMark(r)):
		default:
			return false
		}
	}
	return name != ""
}

// escapeElixir writes a text as between double quotes in Elixir
// (Code.Identifier.escape/2).
func escapeElixir(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError:
			b.WriteRune(r)
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '#' && strings.HasPrefix(s[i:], "#{"):
			b.WriteString(`\#`)
		case elixirEscapes[r] != "":
			b.WriteString(elixirEscapes[r])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02X`, r)
		default:
			fmt.Fprintf(&b, `\x{%X}`, r)
		}
	}
	return b.String()
}

var elixirEscapes = map[rune]string{
	0: `\0`, '\a': `\a`, '\b': `\b`, 0x7f: `\d`, 0x1b: `\e`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`, '\v': `\v`,
}
