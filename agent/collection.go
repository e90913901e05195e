package agent

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/collector/sampler"
)

// collection is windows that follow each other, to become one profile.
type collection struct {
	profiles []*profile.Profile
	stats    sampler.Stats // of all
	err      error
}

// add adds a window. The profile is shared and not changed.
func (c *collection) add(p *profile.Profile, stats sampler.Stats, err error) {
	if err != nil {
		c.err = err
		return
	}
	if c.stats.Duration == 0 {
		c.stats.Start, c.stats.Frequency = stats.Start, stats.Frequency
	}
	c.stats.Duration += stats.Duration
	c.stats.Samples += stats.Samples
	c.stats.Lost += stats.Lost + stats.Malformed
	c.stats.Truncated += stats.Truncated
	c.stats.Partial += stats.Partial
	c.profiles = append(c.profiles, p)
}

// profile returns the windows as one profile, nil if there are none.
func (c *collection) profile() (*profile.Profile, error) {
	if c.err != nil || len(c.profiles) == 0 {
		return nil, c.err
	}
	merged, err := profile.Merge(c.profiles)
	if err != nil {
		return nil, fmt.Errorf("put windows together: %w", err)
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
