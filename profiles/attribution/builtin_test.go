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

// TestDocumentedExample: the examples of docs/rules.md are together one.
func TestDocumentedExample(t *testing.T) {
	text, err := os.ReadFile("../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	example := ""
	for _, block := range strings.Split(string(text), "```yaml\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		example += block
	}
	if strings.Count(example, "diagnosis:") != 1 {
		t.Fatalf("not all examples are there:\n%s", example)
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
