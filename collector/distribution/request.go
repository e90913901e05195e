package distribution

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// describe says what a message is for: the kind of the request, as the type of
// a request in samples, and its tag down to the function it applies.
func describe(message term) (requestType, request string) {
	switch {
	case message.isTuple(3) && message.element(1).isAtom("$gen_call"):
		return "call", tag(message.element(3))
	case message.isTuple(2) && message.element(1).isAtom("$gen_cast"):
		return "cast", tag(message.element(2))
	case message.isTuple(2) && isAny(message.element(1), "$gen_event", "$gen_all_state_event", "$gen_notify", "notify"),
		message.isTuple(3) && isAny(message.element(1), "$gen_sync_event", "$gen_sync_all_state_event", "$gen_sync_notify"):
		return "event", tag(message.element(message.arity))
	case message.isTuple(2) && isReply(message.element(1)):
		return "reply", ""
	case message.kind == termAtom, message.kind == termTuple:
		return "info", tag(message)
	}
	return "", ""
}

func isAny(t term, names ...string) bool {
	for _, name := range names {
		if t.isAtom(name) {
			return true
		}
	}
	return false
}

// isReply tells whether a term is the tag of a reply: a reference, or
// [alias | Reference] (gen:do_call/4).
func isReply(t term) bool {
	return t.kind == termReference || t.kind == termList && len(t.elements) > 0 && t.elements[0].isAtom("alias")
}

// isResult tells whether the reason that a process exits with is the result of
// what erpc applied in it (erpc:execute_call/4, OTP 23 to 28). The monitor that
// brings it has the reference of the request to spawn the process.
func isResult(reason term) bool {
	return (reason.isTuple(3) || reason.isTuple(4)) && reason.element(1).kind == termReference &&
		isAny(reason.element(2), "return", "throw", "exit", "error")
}

// tag returns the tag of a request: an atom, or the first one of a tuple; and of
// {apply, Module, Function, Arguments} and its like the function.
func tag(request term) string {
	if request.kind == termAtom {
		return printable(request.atom)
	}
	first := request.element(1)
	if first.kind != termAtom {
		return ""
	}
	name := printable(first.atom)
	module, function, arguments := request.element(2), request.element(3), request.element(4)
	if request.arity >= 4 && module.kind == termAtom && function.kind == termAtom && (arguments.kind == termList || arguments.kind == termUnknown) {
		return name + " " + functionName(module.atom, function.atom)
	}
	return name
}

// functionName writes a function of unknown arity: as Elixir does if it is one
// of its modules.
func functionName(module, function string) string {
	if module == "" || function == "" {
		return "?"
	}
	if rest, ok := strings.CutPrefix(module, "Elixir."); ok && rest != "" {
		return printable(rest + "." + function)
	}
	return printable(module + ":" + function)
}

// someFun stands for a fun of which only the module is known.
const someFun = "fun"

// spawned returns what a spawn request starts: the function, and for those of
// erpc what they apply.
func spawned(function, arguments term) (destination, request string) {
	module, name, arity := function.element(1), function.element(2), function.element(3)
	if !function.isTuple(3) || module.kind != termAtom || name.kind != termAtom {
		return "", ""
	}
	destination = functionName(module.atom, name.atom)
	if arity.kind == termInteger {
		destination = fmt.Sprintf("%s/%d", destination, arity.number)
	}
	// erlang:spawn/2 and its like; what fun of the module is not sent.
	if module.atom == "erlang" && name.atom == "apply" && len(arguments.elements) > 0 && arguments.elements[0].kind == termFun {
		return functionName(arguments.elements[0].atom, someFun), ""
	}
	// erpc:execute_call/4 and execute_cast/3 get module, function and arguments last.
	if module.atom != "erpc" || arguments.kind != termList || len(arguments.elements) < 2 {
		return destination, ""
	}
	words := arguments.elements
	if name.atom == "execute_call" && len(words) >= 3 {
		words = words[1:]
	}
	if words[0].kind == termAtom && words[1].kind == termAtom {
		request = "apply " + functionName(words[0].atom, words[1].atom)
	}
	return destination, request
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
