package native

import (
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

var (
	// errNotELF says that a mapped file is not a program or library.
	errNotELF = errors.New("not an ELF file")
	errOther  = errors.New("object of another architecture than this machine's")
)

// object is one ELF file mapped by the target, opened when a program counter
// first falls into it. What it holds is read from the file piece by piece:
// mapping the file instead would count as our memory, and would kill us with
// SIGBUS when someone truncates it.
//
// Addresses in an object are virtual addresses as in the file ("vaddr"):
// runtime addresses less the region's bias.
type object struct {
	arch     *architecture
	reader   io.ReaderAt
	closer   io.Closer // nil if there is nothing to close
	name     string    // last element of the path, or "[vdso]"
	buildID  string
	segments []elf.ProgHeader // PT_LOAD only
	unwind   sectionRange     // .eh_frame_hdr; size 0 if there is none
	ehFrame  sectionRange     // .eh_frame, from the section table; size 0 if not known
	code     []codeSection    // from the section table, if there is one
	tables   [2]symbolSection // .symtab and .dynsym, where they exist

	frames      *frameTable // nil until needed
	framesError error       // why frames is empty
	symbols     *symbolTable
}

// sectionRange is a range of an object: its vaddr and size in bytes.
type sectionRange struct{ address, size uint64 }

// codeSection is a section with instructions. Procedure linkage tables (PLT)
// hold stubs that jump into other objects.
type codeSection struct {
	sectionRange
	stubs bool
}

// symbolSection is where a symbol table and its strings are in the file.
type symbolSection struct{ offset, size, names, namesSize uint64 }

// newObject reads the headers of an ELF file. The error is errNotELF if the
// file is something else.
func newObject(reader io.ReaderAt, name string, arch *architecture) (o *object, err error) {
	// debug/elf is not hardened against hostile files.
	defer func() {
		if r := recover(); r != nil {
			o, err = nil, fmt.Errorf("malformed ELF file: %v", r)
		}
	}()
	var magic [4]byte
	if _, err := reader.ReadAt(magic[:], 0); err != nil || string(magic[:]) != elf.ELFMAG {
		return nil, errNotELF
	}
	file, err := elf.NewFile(reader)
	if err != nil {
		return nil, fmt.Errorf("malformed ELF file: %w", err)
	}
	if file.Class != elf.ELFCLASS64 || file.Data != elf.ELFDATA2LSB || file.Machine != arch.machine {
		return nil, errOther
	}
	o = &object{reader: reader, name: name, arch: arch}
	for _, p := range file.Progs {
		switch p.Type {
		case elf.PT_LOAD:
			o.segments = append(o.segments, p.ProgHeader)
		case elf.PT_GNU_EH_FRAME:
			o.unwind = sectionRange{p.Vaddr, p.Filesz}
		case elf.PT_NOTE:
			if o.buildID == "" {
				o.buildID = findBuildID(reader, p.Off, p.Filesz, p.Align)
			}
		}
	}
	for _, s := range file.Sections {
		switch {
		case s.Name == ".eh_frame" && s.Type != elf.SHT_NOBITS:
			o.ehFrame = sectionRange{s.Addr, s.FileSize}
		case s.Flags&elf.SHF_EXECINSTR != 0:
			stubs := strings.HasPrefix(s.Name, ".plt") || s.Name == ".iplt"
			o.code = append(o.code, codeSection{sectionRange{s.Addr, s.Size}, stubs})
		case s.Type == elf.SHT_SYMTAB:
			o.tables[0] = newSymbolSection(file, s)
		case s.Type == elf.SHT_DYNSYM:
			o.tables[1] = newSymbolSection(file, s)
		}
	}
	return o, nil
}

func newSymbolSection(file *elf.File, s *elf.Section) symbolSection {
	if int(s.Link) >= len(file.Sections) {
		return symbolSection{}
	}
	names := file.Sections[s.Link]
	return symbolSection{s.Offset, s.FileSize, names.Offset, names.FileSize}
}

func (o *object) close() {
	if o.closer != nil {
		o.closer.Close()
	}
}

// readAt fills buf with the file's bytes at a vaddr. It returns how many there
// are before the segment ends.
func (o *object) readAt(buf []byte, vaddr uint64) int {
	for i := range o.segments {
		s := &o.segments[i]
		if vaddr < s.Vaddr || vaddr-s.Vaddr >= s.Filesz {
			continue
		}
		into := vaddr - s.Vaddr
		if left := s.Filesz - into; left < uint64(len(buf)) {
			buf = buf[:left]
		}
		n, _ := o.reader.ReadAt(buf, int64(s.Off+into))
		return max(n, 0)
	}
	return 0
}

// extent returns how many bytes of the file follow a vaddr in its segment.
func (o *object) extent(vaddr uint64) uint64 {
	for i := range o.segments {
		s := &o.segments[i]
		if vaddr >= s.Vaddr && vaddr-s.Vaddr < s.Filesz {
			return s.Filesz - (vaddr - s.Vaddr)
		}
	}
	return 0
}

// section returns the code section that a vaddr is in, or nil.
func (o *object) section(vaddr uint64) *codeSection {
	for i := range o.code {
		if s := &o.code[i]; vaddr >= s.address && vaddr-s.address < s.size {
			return s
		}
	}
	return nil
}

// executable tells whether a vaddr is in a segment of code.
func (o *object) executable(vaddr uint64) bool {
	for i := range o.segments {
		s := &o.segments[i]
		if s.Flags&elf.PF_X != 0 && vaddr >= s.Vaddr && vaddr-s.Vaddr < s.Memsz {
			return true
		}
	}
	return false
}

// bias returns what to subtract from a runtime address to get the vaddr, for a
// mapping of the file's bytes from offset on. It comes from the program
// header that the mapping was made from: the dynamic loader rounds both down
// to pages. It may "wrap around": arithmetic is modulo 2^64.
func (o *object) bias(start, offset uint64) (uint64, bool) {
	page := uint64(os.Getpagesize())
	for i := range o.segments {
		s := &o.segments[i]
		first := s.Off &^ (page - 1)
		if s.Flags&elf.PF_X != 0 && offset >= first && offset < s.Off+s.Filesz {
			return start - (s.Vaddr + (offset - s.Off)), true
		}
	}
	return 0, false
}

// maxNotes bounds how much of a note segment is read; those of real files
// have less than 200 bytes.
const maxNotes = 64 << 10

// findBuildID returns the GNU build id (note "GNU", type 3) in hexadecimal,
// or nothing.
func findBuildID(reader io.ReaderAt, offset, size, align uint64) string {
	const noteGNUBuildID = 3
	if align != 8 {
		align = 4
	}
	data := make([]byte, min(size, maxNotes))
	n, _ := reader.ReadAt(data, int64(offset))
	notes := cursor{data: data[:max(n, 0)]}
	padded := func(n uint32) uint64 { return (uint64(n) + align - 1) &^ (align - 1) }
	for !notes.empty() {
		nameSize, descriptorSize, kind := notes.u32(), notes.u32(), notes.u32()
		name := notes.take(padded(nameSize))
		descriptor := notes.take(uint64(descriptorSize))
		if kind == noteGNUBuildID && nameSize == 4 && len(name) >= 4 && string(name[:4]) == "GNU\x00" {
			return hex.EncodeToString(descriptor)
		}
		// The last note need not be padded.
		notes.at = min(notes.at+int(padded(descriptorSize)-uint64(descriptorSize)), len(notes.data))
	}
	return ""
}

// frame returns the unwind information of a vaddr.
func (o *object) frame(vaddr uint64) (*frameEntry, error) {
	if o.frames == nil {
		if o.frames, o.framesError = openFrames(o); o.framesError != nil {
			o.frames = newFrameTable(o) // an empty one: do not try again
		}
	}
	return o.frames.find(vaddr)
}

// symbol returns the name and the vaddr of the function that a vaddr is in.
func (o *object) symbol(vaddr uint64) (name string, start uint64, ok bool) {
	if o.symbols == nil {
		o.symbols = openSymbols(o)
	}
	e, ok := o.symbols.find(vaddr, func(start uint64) bool { return o.oneFunction(start, vaddr) })
	if !ok {
		return "", 0, false
	}
	name = o.symbols.name(e)
	return name, o.symbols.base + uint64(e.start), name != ""
}

// oneFunction tells whether two addresses, of which none between them has a
// symbol, are in one function: a function that has no symbol would otherwise
// pass for the one before it.
func (o *object) oneFunction(start, vaddr uint64) bool {
	if o.section(start) != o.section(vaddr) {
		return false
	}
	f, err := o.frame(vaddr)
	if err == nil {
		return f.start <= start
	}
	if begin, ok := o.frames.nearest(vaddr); ok && begin > start {
		return false
	}
	_, err = o.frame(start)
	return err != nil // else the function at start ends before vaddr
}
