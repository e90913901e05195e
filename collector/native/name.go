package native

import (
	"strings"

	"github.com/ianlancetaylor/demangle"
)

// symbolName is one of the names that code has.
type symbolName struct {
	text string
	rank uint8
}

// What kind of symbol a name belongs to, best first.
const (
	rankGlobal = iota
	rankWeak
	rankLocal
	rankLabel
)

// better tells which of two names of the same code to show, whatever order
// the tables have: the one with fewer leading underscores (read, not
// __libc_read), then of the better rank, then the shorter, then by alphabet.
func (n symbolName) better(other symbolName) bool {
	if a, b := underscores(n.text), underscores(other.text); a != b {
		return a < b
	}
	if n.rank != other.rank {
		return n.rank < other.rank
	}
	if len(n.text) != len(other.text) {
		return len(n.text) < len(other.text)
	}
	return n.text < other.text
}

func underscores(name string) int { return len(name) - len(strings.TrimLeft(name, "_")) }

// maxDemangled bounds a demangled name, as a power of two: substitutions can
// make it exponentially longer than the mangled one.
const maxDemangled = 12

// demangled returns a C++ or Rust name as it stands in the source, without
// parameters and template arguments; other names unchanged.
func demangled(name string) string {
	return demangle.Filter(name, demangle.NoParams, demangle.NoEnclosingParams, demangle.NoTemplateParams,
		demangle.MaxLength(maxDemangled))
}
