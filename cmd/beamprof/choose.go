package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/profiles/text"
)

// nodeName returns the VM's node name, or nothing if it is not distributed.
func nodeName(info beam.Info) string { return info.NodeName() }

// choose returns the process id of the VM that --pid or --node name, or of the
// only one there is.
func choose(s system, pid int, node string) (int, error) {
	if pid != 0 {
		return pid, nil
	}
	all, err := s.List()
	if err != nil {
		return 0, err
	}
	found := all
	if node != "" {
		found = nil
		for _, c := range all {
			short, _, _ := strings.Cut(c.Node, "@")
			if c.Node == node || short == node && short != "" {
				found = append(found, c)
			}
		}
	}
	switch {
	case len(found) == 1:
		return found[0].PID, nil
	case len(found) > 1:
		return 0, &codeError{exitUsage, fmt.Errorf("%d Erlang VMs fit: choose one with --pid\n%s", len(found), strings.TrimRight(table(found), "\n"))}
	case node != "" && forbidden(all):
		return 0, fmt.Errorf("none is known to be node %q, but not all can be looked into: %w", text.Clean(node), beam.ErrPermission)
	case node != "":
		return 0, fmt.Errorf("%w: none is node %q%s", errNoVM, text.Clean(node), unreadable(all))
	}
	return 0, fmt.Errorf("%w: no beam.smp runs on this host, or none that can be seen from here", errNoVM)
}

// unreadable says that there are VMs whose name could not be read.
func unreadable(all []beam.Candidate) string {
	n := 0
	for _, c := range all {
		if c.Node == "" {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (the names of %d could not be read: see beamprof ps)", n)
}

// forbidden tells whether there are VMs that may not be read.
func forbidden(all []beam.Candidate) bool {
	return slices.ContainsFunc(all, func(c beam.Candidate) bool { return errors.Is(c.Err, beam.ErrPermission) })
}
