package attribution

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// pairs returns the keys and values of a mapping; none for one that is absent.
func (p *parser) pairs(n *yaml.Node, what string) [][2]*yaml.Node {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		p.fail(n, "%s: expected keys and values", what)
		return nil
	}
	var pairs [][2]*yaml.Node
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode:
			p.fail(key, "%s: a key must be a word", what)
			continue
		case seen[key.Value]:
			p.fail(key, "%s: %q stands twice", what, key.Value)
			continue
		}
		seen[key.Value] = true
		pairs = append(pairs, [2]*yaml.Node{key, n.Content[i+1]})
	}
	return pairs
}

// mapping returns a mapping that may have these keys and no others.
func (p *parser) mapping(n *yaml.Node, what string, keys ...string) map[string]*yaml.Node {
	if n == nil {
		return nil
	}
	values := map[string]*yaml.Node{}
	for _, pair := range p.pairs(n, what) {
		if !slices.Contains(keys, pair[0].Value) {
			p.fail(pair[0], "unknown key %q: %s has %s", pair[0].Value, what, strings.Join(keys, ", "))
			continue
		}
		values[pair[0].Value] = pair[1]
	}
	return values
}

func (p *parser) sequence(n *yaml.Node, what string) []*yaml.Node {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		p.fail(n, "%s: expected a list", what)
		return nil
	}
	return n.Content
}

// scalars returns a word, or a list of words, as a list.
func (p *parser) scalars(n *yaml.Node) []*yaml.Node {
	if n == nil {
		return nil
	}
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	return slices.DeleteFunc(slices.Clone(items), func(item *yaml.Node) bool {
		if item.Kind == yaml.ScalarNode {
			return false
		}
		p.fail(item, "expected a word")
		return true
	})
}

func (p *parser) strings(n *yaml.Node) (values []string) {
	for _, item := range p.scalars(n) {
		values = append(values, item.Value)
	}
	return values
}

func (p *parser) text(n *yaml.Node) string {
	if n == nil {
		return ""
	}
	if n.Kind != yaml.ScalarNode {
		p.fail(n, "expected text")
		return ""
	}
	return n.Value
}
