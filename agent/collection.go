package agent

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/collector/sampler"
	"github.com/beamprof/beamprof/profiles/summary"
	"github.com/beamprof/beamprof/profiles/upload"
)

// collection is windows that follow each other, to become one profile of each kind.
type collection struct {
	profiles map[string][]*profile.Profile // by kind
	stats    sampler.Stats                 // of all
	summary  *summary.Summary              // as far as join goes
	err      error
}

// add adds a window. Profiles are shared and not changed.
func (c *collection) add(profiles map[string]*profile.Profile, stats sampler.Stats, s *summary.Summary, err error) {
	c.err = errors.Join(c.err, err)
	if c.stats.Duration == 0 {
		c.stats.Start, c.stats.Frequency = stats.Start, stats.Frequency
	}
	c.stats.Duration += stats.Duration
	c.stats.Samples += stats.Samples
	c.stats.Lost += stats.Lost + stats.Malformed
	c.stats.Truncated += stats.Truncated
	c.stats.Partial += stats.Partial
	c.summary = join(c.summary, s)
	if c.profiles == nil {
		c.profiles = map[string][]*profile.Profile{}
	}
	for kind, p := range profiles {
		c.profiles[kind] = append(c.profiles[kind], p)
	}
}

// profile returns the windows as one profile of a kind, nil if there are none.
func (c *collection) profile(kind string) (*profile.Profile, error) {
	if len(c.profiles[kind]) == 0 {
		return nil, nil
	}
	merged, err := profile.Merge(c.profiles[kind])
	if err != nil {
		return nil, fmt.Errorf("put windows together: %w", err)
	}
	if kind != upload.KindCPU {
		return merged, nil
	}
	// What each window says of its samples would be said as often as there are windows.
	comments := merged.Comments[:0:0]
	for _, comment := range merged.Comments {
		if !strings.HasPrefix(comment, "samples: ") && !strings.HasPrefix(comment, "frames without a name: ") {
			comments = append(comments, comment)
		}
	}
	merged.Comments = append(comments, fmt.Sprintf("samples: %d, lost: %d, truncated: %d, partly unwound: %d",
		c.stats.Samples, c.stats.Lost, c.stats.Truncated, c.stats.Partial))
	return merged, nil
}

func encode(p *profile.Profile) ([]byte, error) {
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		return nil, fmt.Errorf("write a profile: %w", err)
	}
	return b.Bytes(), nil
}
