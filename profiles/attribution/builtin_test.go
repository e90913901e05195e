package attribution

import (
	"os"
	"strings"
	"testing"
)

// TestBuiltins: every built-in rule set is free of errors and of problems.
func TestBuiltins(t *testing.T) {
	for _, name := range Names() {
		data, ok := Source(name)
		if !ok {
			t.Errorf("%s: no file", name)
			continue
		}
		rules, err := Parse(name+".yaml", data)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if rules.Name != name {
			t.Errorf("%s calls itself %q", name, rules.Name)
		}
		for _, p := range rules.Problems() {
			t.Error(p)
		}
	}
}

// TestDocumentedExample: the example of docs/rules.md is one.
func TestDocumentedExample(t *testing.T) {
	text, err := os.ReadFile("../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, found := strings.Cut(string(text), "```yaml\n")
	example, _, closed := strings.Cut(example, "```")
	if !found || !closed {
		t.Fatal("no example")
	}
	rules := parse(t, example)
	for _, p := range rules.Problems() {
		t.Error(p)
	}
	w := newWho()
	s := w.asked(w.sample("shop_db_N", "call get"), "shop_session:init/1 || shop_cart:checkout/2")
	if p := attribute(rules, s)[s]; len(p) != 1 || p[0].Workload != "orders" || p[0].Basis != BasisCaller {
		t.Errorf("%+v", p)
	}
}
