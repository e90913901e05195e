package sinks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/internal/wholefile"
	"github.com/beamprof/beamprof/profiles/upload/limits"
)

// directory keeps profiles as files, each whole or not at all, and removes
// those that are too old or too many.
//
// A file is named by when the profile began, whose it is, its kind and the
// beginning of its ID: a profile that is written twice is one file.
type directory struct {
	config Config
}

const (
	fileSuffix = ".pb.gz"
	fileTime   = "20060102T150405Z"
)

func newDirectory(c Config) (*directory, error) {
	if err := os.MkdirAll(c.Directory.Path, 0o755); err != nil {
		return nil, fmt.Errorf("directory.path: %w", err)
	}
	d := &directory{config: c}
	return d, d.removeTemporary()
}

// removeTemporary removes what an interrupted Delivery left.
func (d *directory) removeTemporary() error {
	leftovers, err := filepath.Glob(filepath.Join(d.config.Directory.Path, "."+"*"+fileSuffix))
	for _, name := range leftovers {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

func (d *directory) Close() error { return nil }

// Prepare leaves the profile as it is unless the sink has labels of its own or
// allows only some: then they are those of the samples.
func (d *directory) Prepare(p *Profile) (Delivery, limits.Report, error) {
	name, data := fileName(p), p.Data
	if len(d.config.Labels) > 0 || len(d.config.LabelAllow) > 0 {
		var err error
		if data, err = d.relabelled(data); err != nil {
			return nil, limits.Report{}, err
		}
	}
	return func(context.Context) error {
		path := d.config.Directory.Path
		err := wholefile.Write(filepath.Join(path, name), filepath.Join(path, "."+name), data, 0o644)
		if err == nil {
			err = d.retain(time.Now())
		}
		if err != nil {
			return &Failure{Reason: ReasonLocal, Outage: true, Err: err}
		}
		return nil
	}, limits.Report{}, nil
}

func (d *directory) relabelled(data []byte) ([]byte, error) {
	p, err := profile.ParseData(data)
	if err != nil {
		return nil, fmt.Errorf("read the profile: %w", err)
	}
	if len(d.config.LabelAllow) > 0 {
		if _, err := limits.None.Apply(p, d.config.LabelAllow); err != nil {
			return nil, err
		}
	}
	withLabels(p, d.config.Labels)
	return packed(p)
}

func fileName(p *Profile) string {
	who := p.Labels["node"]
	if who == "" {
		who = p.Labels["service_name"]
	}
	who = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-', r == '@':
			return r
		}
		return '_'
	}, who)
	return fmt.Sprintf("%s-%s-%s-%s%s", p.Start.UTC().Format(fileTime), who[:min(len(who), 100)], p.Kind, p.ID().String()[:8], fileSuffix)
}

// retain removes files that are too old, and the oldest while all are too large together.
func (d *directory) retain(now time.Time) error {
	entries, err := os.ReadDir(d.config.Directory.Path)
	if err != nil {
		return err
	}
	type kept struct {
		name string
		at   time.Time
		size int64
	}
	var files []kept
	var bytes int64
	for _, e := range entries {
		at, ok := fileStart(e.Name())
		if !ok {
			continue
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // removed meanwhile, or not ours
		}
		files = append(files, kept{e.Name(), at, info.Size()})
		bytes += info.Size()
	}
	slices.SortFunc(files, func(a, b kept) int { return strings.Compare(a.name, b.name) })
	for i, f := range files {
		full := bytes > int64(d.config.Directory.MaxBytes) && i < len(files)-1
		if now.Sub(f.at) <= d.config.Directory.MaxAge && !full {
			break
		}
		if err := os.Remove(filepath.Join(d.config.Directory.Path, f.name)); err != nil {
			return err
		}
		bytes -= f.size
	}
	return nil
}

// fileStart returns the time in a file's name; ok is false if it is not one of ours.
func fileStart(name string) (time.Time, bool) {
	start, _, ok := strings.Cut(name, "-")
	if !ok || !strings.HasSuffix(name, fileSuffix) {
		return time.Time{}, false
	}
	at, err := time.Parse(fileTime, start)
	return at, err == nil
}
