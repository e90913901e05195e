package attribution

import (
	"embed"
	"fmt"
	"slices"
)

//go:embed rules/*.yaml
var files embed.FS

// order of the built-in rule sets: the first that fits a node is chosen, and
// the last fits every one.
var order = []string{"vernemq", "rabbitmq", "ejabberd", "otp"}

// Names returns the names of the built-in rule sets.
func Names() []string { return slices.Clone(order) }

// Source returns the file of a built-in rule set.
func Source(name string) ([]byte, bool) {
	if !slices.Contains(order, name) {
		return nil, false
	}
	data, err := files.ReadFile("rules/" + name + ".yaml")
	return data, err == nil
}

// Builtin returns a built-in rule set.
func Builtin(name string) (*Rules, bool) {
	data, ok := Source(name)
	if !ok {
		return nil, false
	}
	rules, err := Parse(name+".yaml", data)
	if err != nil {
		panic(fmt.Sprintf("built-in rules: %v", err)) // tests parse them all
	}
	return rules, true
}

// Choose returns the built-in rule set for a node by the modules it has loaded.
func Choose(modules []string) *Rules {
	loaded := map[string]bool{}
	for _, m := range modules {
		loaded[m] = true
	}
	for _, name := range order {
		rules, _ := Builtin(name)
		if len(rules.Detect) == 0 || slices.ContainsFunc(rules.Detect, func(m string) bool { return loaded[m] }) {
			return rules
		}
	}
	return nil
}
