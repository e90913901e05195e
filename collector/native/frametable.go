package native

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"

	lru "github.com/hashicorp/golang-lru/v2"
)

// frameTable finds the frame description entry (FDE) of an address in
// .eh_frame. It keeps only the sorted table that the linker made for run-time
// unwinding (.eh_frame_hdr, 8 bytes per function); entries are read from the
// file when asked for.
type frameTable struct {
	object *object
	base   uint64 // vaddr that the table's numbers are relative to
	table  []byte // pairs of int32 less base, sorted: vaddr of the function, vaddr of its FDE
	common map[uint64]*commonEntry
	recent *lru.Cache[uint64, *frameEntry] // by vaddr of the FDE
}

const (
	pairSize = 8
	// recentEntries bounds the entries that are kept: a busy VM's samples fall
	// into a few hundred functions, of some 100 bytes each.
	recentEntries = 512
	// maxTable bounds the table of one object: of a million functions.
	maxTable = pairSize << 20
)

var (
	errNoEntry = errors.New("no unwind information for this address")
	errNoTable = errors.New("object without .eh_frame")
)

// openFrames reads the table; without a usable one it is made from .eh_frame.
func openFrames(o *object) (*frameTable, error) {
	t := newFrameTable(o)
	frames, err := t.readHeader()
	if err == nil {
		return t, nil
	}
	if o.ehFrame.size != 0 {
		frames = o.ehFrame
	}
	if frames.size == 0 {
		return nil, err
	}
	return t, t.scan(frames)
}

func newFrameTable(o *object) *frameTable {
	recent, err := lru.New[uint64, *frameEntry](recentEntries)
	if err != nil {
		panic(err) // a size that is not positive
	}
	return &frameTable{object: o, common: map[uint64]*commonEntry{}, recent: recent}
}

// readHeader reads .eh_frame_hdr: Linux Standard Base 5.0, core, section
// 10.6.2. When its table is missing or of another kind than linkers write,
// the error comes with the range to scan for .eh_frame, if that is known.
func (t *frameTable) readHeader() (frames sectionRange, err error) {
	header := t.object.unwind
	if header.size == 0 {
		return frames, errNoTable
	}
	buf := make([]byte, min(header.size, 64))
	c := pointerReader{cursor{data: buf[:t.object.readAt(buf, header.address)]}, header.address, header.address}
	version, framesEncoding, countEncoding, tableEncoding := c.u8(), c.u8(), c.u8(), c.u8()
	start := c.pointer(framesEncoding)
	if c.bad || version != 1 {
		return frames, errors.New("malformed .eh_frame_hdr")
	}
	frames = sectionRange{start, t.object.extent(start)}
	count := c.pointer(countEncoding)
	if c.bad || tableEncoding != pointerDataRelative|pointerSigned4 {
		return frames, errors.New(".eh_frame_hdr without a search table")
	}
	size, first := count*pairSize, uint64(c.at)
	if count > maxTable/pairSize || first+size > header.size || size > t.object.extent(header.address+first) {
		return frames, fmt.Errorf(".eh_frame_hdr with a table of %d entries", count)
	}
	t.base, t.table = header.address, make([]byte, size)
	if n := t.object.readAt(t.table, header.address+first); uint64(n) != size {
		t.table = nil
		return frames, errors.New("truncated .eh_frame_hdr")
	}
	return frames, nil
}

// scan makes the table from the entries of .eh_frame themselves.
func (t *frameTable) scan(frames sectionRange) error {
	type pair struct{ function, entry int32 }
	var pairs []pair
	t.base = frames.address
	for at := frames.address; at-frames.address < frames.size; {
		length, data := t.entry(at)
		if length == 0 || len(pairs) == maxTable/pairSize {
			break // the terminator, or nothing that could be read
		}
		if f, err := t.parseFrame(at, data); err == nil {
			function, entry := int64(f.start-t.base), int64(at-t.base)
			if function == int64(int32(function)) && entry == int64(int32(entry)) {
				pairs = append(pairs, pair{int32(function), int32(entry)})
			}
		}
		at += length
	}
	if len(pairs) == 0 {
		return errNoTable
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(a.function, b.function) })
	t.table = make([]byte, 0, len(pairs)*pairSize)
	for _, p := range pairs {
		t.table = binary.LittleEndian.AppendUint32(t.table, uint32(p.function))
		t.table = binary.LittleEndian.AppendUint32(t.table, uint32(p.entry))
	}
	return nil
}

// before returns the index of the last function that starts at or before a
// vaddr, or -1.
func (t *frameTable) before(vaddr uint64) int {
	wanted := int64(vaddr - t.base)
	return sort.Search(len(t.table)/pairSize, func(i int) bool {
		return int64(t.number(i*pairSize)) > wanted
	}) - 1
}

// nearest returns the start of the last function at or before a vaddr.
func (t *frameTable) nearest(vaddr uint64) (start uint64, ok bool) {
	i := t.before(vaddr)
	if i < 0 {
		return 0, false
	}
	return t.base + uint64(int64(t.number(i*pairSize))), true
}

// find returns the entry that covers a vaddr, or errNoEntry.
func (t *frameTable) find(vaddr uint64) (*frameEntry, error) {
	i := t.before(vaddr)
	if i < 0 {
		return nil, errNoEntry
	}
	at := t.base + uint64(int64(t.number(i*pairSize+4)))
	f, ok := t.recent.Get(at)
	if !ok {
		_, data := t.entry(at)
		var err error
		if f, err = t.parseFrame(at, data); err != nil {
			return nil, err
		}
		t.recent.Add(at, f)
	}
	if vaddr < f.start || vaddr-f.start >= f.size {
		return nil, errNoEntry
	}
	return f, nil
}

func (t *frameTable) number(at int) int32 {
	return int32(binary.LittleEndian.Uint32(t.table[at:]))
}

const (
	// firstRead covers nearly all entries with one read.
	firstRead = 256
	// maxEntry bounds one entry; the longest of OpenSSL has less than 1 KiB.
	maxEntry = 256 << 10
)

// entry reads the entry at a vaddr. It returns its bytes without the length
// field, and the distance to the next entry; 0 if there is none.
func (t *frameTable) entry(vaddr uint64) (length uint64, data []byte) {
	buf := make([]byte, firstRead)
	buf = buf[:t.object.readAt(buf, vaddr)]
	c := cursor{data: buf}
	// Entries of the 64-bit format (length 0xffffffff) have no tool that writes them here.
	size := uint64(c.u32())
	if c.bad || size == 0 || size > maxEntry {
		return 0, nil
	}
	if size+4 > uint64(len(buf)) {
		buf = make([]byte, size+4)
		if uint64(t.object.readAt(buf, vaddr)) != size+4 {
			return 0, nil
		}
	}
	return size + 4, buf[4 : size+4]
}
