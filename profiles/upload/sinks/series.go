package sinks

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/profiles/text"
	"github.com/beamprof/beamprof/profiles/upload/limits"
)

const (
	serviceName    = "service_name"
	defaultService = "beam"
	reservedLabels = 5 // __name__, __delta__, pyroscope_spy and their like, which servers add
)

// parse reads a profile and brings it within the limits of servers. series are
// the labels of all its samples: the target's and the sink's.
func parse(c *Config, p *Profile) (read *profile.Profile, series map[string]string, report limits.Report, err error) {
	read, err = profile.ParseData(p.Data)
	if err != nil {
		return nil, nil, report, fmt.Errorf("read the profile: %w", err)
	}
	series = seriesLabels(c, p)
	allowed := c.LabelAllow
	allowed, without := roomFor(read, allowed, maxLabels-reservedLabels-len(series))
	report, err = limits.Servers.Apply(read, allowed)
	report.Labels = without
	return read, series, report, err
}

// seriesLabels merges the labels of the target and of the sink. Names are made
// such that every server takes them; there is always a service_name.
func seriesLabels(c *Config, p *Profile) map[string]string {
	labels := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(p.Labels)) { // as names may become equal
		labels[plainName(name)] = plainValue(p.Labels[name])
	}
	for name, value := range c.Labels {
		labels[name] = plainValue(value)
	}
	maps.DeleteFunc(labels, func(name, value string) bool { return name == "" || value == "" })
	if labels[serviceName] == "" {
		labels[serviceName] = defaultService
	}
	return labels
}

func plainValue(s string) string { return limits.Short(text.Clean(s), limits.Servers.Name) }

// plainName replaces what a label's name must not hold.
func plainName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, s)
	if s != "" && s[0] >= '0' && s[0] <= '9' || strings.HasPrefix(s, reservedLabelPrefix) {
		s = "label_" + strings.TrimLeft(s, "_")
	}
	return limits.Short(s, limits.Servers.Name)
}

// roomFor returns the first of the allowed labels for which a series has room,
// of those that the profile has, and how many it has no room for.
func roomFor(p *profile.Profile, allowed []string, room int) (_ []string, without int) {
	used := map[string]bool{}
	for _, s := range p.Sample {
		for name := range s.Label {
			used[name] = true
		}
		for name := range s.NumLabel {
			used[name] = true
		}
	}
	var kept []string
	for _, name := range allowed {
		switch {
		case !used[name]:
		case len(kept) < room:
			kept = append(kept, name)
		default:
			without++
		}
	}
	return kept, without
}

// withLabels gives all samples the same further labels, where a protocol has no
// other place for them. A sample's own label of the same name goes.
func withLabels(p *profile.Profile, labels map[string]string) {
	for _, s := range p.Sample {
		own := s.Label
		s.Label = make(map[string][]string, len(own)+len(labels))
		maps.Copy(s.Label, own)
		for name, value := range labels {
			s.Label[name] = []string{value}
		}
	}
}

// packed writes a profile as a file.
func packed(p *profile.Profile) ([]byte, error) {
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		return nil, fmt.Errorf("write the profile: %w", err)
	}
	return b.Bytes(), nil
}
