package native

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
)

// vdsoName is what the kernel calls the code it maps into every process.
const vdsoName = "[vdso]"

// fileID identifies a file as /proc/PID/maps does; on some file systems (overlayfs,
// btrfs) stat(2) gives other numbers.
type fileID struct {
	major, minor uint32
	inode        uint64
}

// mapLine is an executable line of /proc/PID/maps.
type mapLine struct {
	start, limit, offset uint64 // bytes
	file                 fileID
	path                 string // without " (deleted)"
	deleted              bool
}

var errMapsFormat = errors.New("unexpected format of /proc/PID/maps")

// parseMaps returns the executable mappings with a name, in the order given,
// and how many bits a user address of the process has: pointer
// authentication codes of arm64 stand above them.
//
// The format is that of proc_pid_maps(5): "start-limit perms offset
// major:minor inode path" with a newline in path written as \012. The parser
// does not use prometheus/procfs because that folds runs of blanks in paths and
// allocates several times for each of the mappings, most of which are data.
func parseMaps(text []byte) (lines []mapLine, addressBits int, err error) {
	var highest uint64
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte{'\n'})
		m, executable, err := parseMapLine(line)
		if err != nil {
			return nil, 0, err
		}
		// The kernel half holds [vsyscall], which is not the process's own.
		if int64(m.limit) > 0 {
			highest = max(highest, m.limit-1)
		}
		if executable && m.path != "" {
			lines = append(lines, m)
		}
	}
	return lines, bits.Len64(highest), nil
}

func parseMapLine(line []byte) (m mapLine, executable bool, err error) {
	fields := fieldReader{rest: line}
	m.start = fields.number('-', 16)
	m.limit = fields.number(' ', 16)
	permissions := fields.until(' ')
	m.offset = fields.number(' ', 16)
	m.file.major = uint32(fields.number(':', 16))
	m.file.minor = uint32(fields.number(' ', 16))
	m.file.inode = fields.number(' ', 10)
	if fields.bad || len(permissions) != 4 || m.limit <= m.start {
		return mapLine{}, false, fmt.Errorf("%w: %.100q", errMapsFormat, line)
	}
	if permissions[2] != 'x' {
		return m, false, nil // without its path: data does not matter
	}
	path := bytes.TrimLeft(fields.rest, " ")
	path, m.deleted = bytes.CutSuffix(path, []byte(" (deleted)"))
	m.path = string(bytes.ReplaceAll(path, []byte(`\012`), []byte{'\n'}))
	return m, true, nil
}

// fieldReader cuts a line into fields; bad tells of missing or malformed ones.
type fieldReader struct {
	rest []byte
	bad  bool
}

// until returns what stands before the separator. The last field of a line
// may end with the line.
func (f *fieldReader) until(separator byte) []byte {
	field, rest, _ := bytes.Cut(f.rest, []byte{separator})
	f.rest = rest
	return field
}

func (f *fieldReader) number(separator byte, base uint64) uint64 {
	field := f.until(separator)
	if len(field) == 0 || len(field) > 20 {
		f.bad = true
		return 0
	}
	var value uint64
	for _, c := range field {
		digit := uint64(99)
		switch {
		case c >= '0' && c <= '9':
			digit = uint64(c - '0')
		case c >= 'a' && c <= 'f':
			digit = uint64(c-'a') + 10
		}
		if digit >= base {
			f.bad = true
			return 0
		}
		value = value*base + digit
	}
	return value
}
