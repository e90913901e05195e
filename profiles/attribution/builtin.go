package attribution

import (
	"bytes"
	"embed"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
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
		detect := detects(name)
		if len(detect) == 0 || slices.ContainsFunc(detect, func(m string) bool { return loaded[m] }) {
			rules, _ := Builtin(name)
			return rules
		}
	}
	return nil
}

// detects returns the modules of Rules.Detect. They are in the first paragraph of
// the file; to read all of it takes milliseconds.
func detects(name string) []string {
	data, _ := Source(name)
	head, _, _ := bytes.Cut(data, []byte("\n\n"))
	var set struct {
		Detect struct{ Modules []string }
	}
	if err := yaml.Unmarshal(head, &set); err != nil {
		panic(fmt.Sprintf("built-in rules: %v", err)) // tests read them all
	}
	return set.Detect.Modules
}
