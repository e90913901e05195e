// Package native knows the machine code of the target that the VM's JIT did
// not make: beam.smp, its libraries and NIFs, the vdso; and the kernel's. It
// finds the object a program counter is in, names it, and walks the C stack
// by .eh_frame with the callee-saved registers recovered.
//
// The target is only read: nothing is stopped or attached to.
package native

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"sort"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam/memory"
)

// Space is the address space of one process, as far as it is code from
// files. It is for use by one goroutine.
type Space struct {
	pid         int
	arch        *architecture
	memory      *memory.Process
	maps        *mapsFile
	addressMask uint64 // bits of a user address
	regions     []*region
	objects     map[fileID]*object // nil: opening it failed
	problems    map[string]error   // by path
	rows        rowCache
}

// region is an executable mapping of a file, sorted by address in Space.
type region struct {
	mapLine
	mapping *collector.Mapping // what Find returns; stays the same object as long as the region does
	state   regionState
	object  *object // if state is regionOpen
	bias    uint64  // runtime address less vaddr
}

type regionState uint8

const (
	regionNew     regionState = iota // not looked at yet
	regionOpen                       // object and bias are set
	regionUnknown                    // an object that cannot be read: it has a mapping and nothing else
	regionForeign                    // no object: memory shared through a memfd, ...
)

// Open prepares the address space of process pid, a number of the pid
// namespace that /proc shows. Objects are opened when a program counter first
// falls into them. Errors wrap memory.ErrExited, memory.ErrPermission
// or os.ErrNotExist where that is the reason.
func Open(pid int) (*Space, error) {
	m, err := memory.Open(pid)
	if err != nil {
		return nil, err
	}
	maps, err := openMaps(pid)
	if err != nil {
		m.Close()
		return nil, err
	}
	s := &Space{
		pid: pid, arch: &hostArchitecture, memory: m, maps: maps,
		objects: map[fileID]*object{}, problems: map[string]error{},
	}
	if err := s.Refresh(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close releases the files held open.
func (s *Space) Close() error {
	for _, o := range s.objects {
		if o != nil {
			o.close()
		}
	}
	s.objects, s.regions = nil, nil
	s.rows.clear()
	return errors.Join(s.maps.close(), s.memory.Close())
}

// Problems tells which objects could not be read and why, by path. Frames in
// them have an offset for a name and end the walk of the stack.
func (s *Space) Problems() map[string]error { return s.problems }

// Refresh reads the mappings anew, for libraries that were loaded or unloaded
// since. What did not change is kept; if nothing did, it costs little more
// than the kernel's work to list the mappings.
func (s *Space) Refresh() error {
	text, changed, err := s.maps.read()
	if err != nil || !changed {
		return err
	}
	lines, addressBits, err := parseMaps(text)
	if err != nil {
		return fmt.Errorf("process %d: %w", s.pid, err)
	}
	if addressBits < 64 {
		s.addressMask = 1<<addressBits - 1
	}
	s.replaceRegions(lines)
	return nil
}

// replaceRegions makes regions of lines and keeps those that are there already.
func (s *Space) replaceRegions(lines []mapLine) {
	regions := make([]*region, 0, len(lines))
	for i := range lines {
		l := &lines[i]
		if l.path[0] != '/' && l.path != vdsoName {
			continue // [vsyscall], [uprobes], [anon:...]
		}
		if old := s.region(l.start); old != nil && old.mapLine == *l {
			regions = append(regions, old)
			continue
		}
		regions = append(regions, &region{mapLine: *l})
	}
	slices.SortFunc(regions, func(a, b *region) int { return cmp.Compare(a.start, b.start) })
	if slices.Equal(regions, s.regions) {
		return
	}
	s.regions = regions
	s.rows.clear()
	s.dropUnused()
}

// dropUnused closes the objects that no mapping refers to any more.
func (s *Space) dropUnused() {
	used := make(map[fileID]bool, len(s.regions))
	for _, r := range s.regions {
		used[r.file] = true
	}
	for id, o := range s.objects {
		if used[id] {
			continue
		}
		if o != nil {
			o.close()
		}
		delete(s.objects, id)
	}
	for path := range s.problems {
		if !slices.ContainsFunc(s.regions, func(r *region) bool { return r.path == path }) {
			delete(s.problems, path)
		}
	}
}

// region returns the region that pc is in, or nil.
func (s *Space) region(pc uint64) *region {
	i := sort.Search(len(s.regions), func(i int) bool { return s.regions[i].limit > pc })
	if i == len(s.regions) || s.regions[i].start > pc {
		return nil
	}
	return s.regions[i]
}

// find returns the region of the object that pc is in, opened if it can be.
func (s *Space) find(pc uint64) *region {
	r := s.region(pc)
	if r == nil {
		return nil
	}
	if r.state == regionNew {
		s.openRegion(r)
	}
	if r.state == regionForeign {
		return nil
	}
	return r
}

// Find returns the mapping of the object that pc is in. Anonymous memory, and
// memory shared through a memfd as the JIT's is, is no object. The same
// *Mapping is returned for as long as the mapping exists.
func (s *Space) Find(pc uint64) (*collector.Mapping, bool) {
	r := s.find(pc)
	if r == nil {
		return nil, false
	}
	return r.mapping, true
}

func (s *Space) openRegion(r *region) {
	o, err := s.open(r)
	if errors.Is(err, errNoFile) || errors.Is(err, errNotELF) {
		r.state = regionForeign
		return
	}
	r.mapping = &collector.Mapping{Start: r.start, Limit: r.limit, Offset: r.offset, File: r.path}
	r.state = regionUnknown
	if o != nil {
		r.mapping.BuildID = o.buildID
		var ok bool
		if r.bias, ok = o.bias(r.start, r.offset); ok {
			r.object, r.state = o, regionOpen
			return
		}
		err = errors.New("no program header fits the mapping")
	}
	if err != nil {
		s.problems[r.path] = err
	}
}

// open returns the object of a region, opened now or before. Both results are
// nil if that failed before.
func (s *Space) open(r *region) (*object, error) {
	if o, ok := s.objects[r.file]; ok && r.path != vdsoName {
		return o, nil
	}
	o, err := s.load(r)
	if err != nil && (errors.Is(err, errNoFile) || errors.Is(err, errNotELF)) {
		return nil, err
	}
	s.objects[r.file] = o
	return o, err
}

func (s *Space) load(r *region) (*object, error) {
	if r.path == vdsoName {
		image := make([]byte, min(r.limit-r.start, maxVDSO))
		if err := s.memory.Read(image, r.start); err != nil {
			return nil, err
		}
		return newObject(bytes.NewReader(image), vdsoName, s.arch)
	}
	file, err := s.openMapped(&r.mapLine)
	if err != nil {
		return nil, err
	}
	o, err := newObject(file, path.Base(r.path), s.arch)
	if err != nil {
		file.Close()
		return nil, err
	}
	o.closer = file
	return o, nil
}

// maxVDSO bounds the copy of the vdso, which has a few pages.
const maxVDSO = 64 << 10
