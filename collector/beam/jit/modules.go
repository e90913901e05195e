package jit

// Modules returns the names of the modules whose code the VM has now, each
// once, in no order. Elixir's are named as the VM does: Elixir.Enum.
func (t *Table) Modules() []string {
	var names []string
	seen := map[*module]bool{}
	for _, s := range t.index.Load().segments {
		m := s.newest.module
		if seen[m] || m.life.until.Load() != 0 {
			continue
		}
		seen[m] = true
		names = append(names, m.name)
	}
	return names
}
