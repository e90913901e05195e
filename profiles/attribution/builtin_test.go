package attribution

import "testing"

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
