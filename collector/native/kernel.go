package native

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strings"
)

// ErrRestricted says that the kernel shows no addresses of its symbols.
var ErrRestricted = errors.New("kernel addresses are hidden: run as root with " +
	"CAP_SYSLOG, or set the sysctl kernel.kptr_restrict to 0")

// KernelSymbols are the functions of the running kernel and its modules, one
// name for each address: the one that the kernel itself shows, which is the first
// of those it lists (get_symbol_pos in kernel/kallsyms.c, find_kallsyms_symbol in
// kernel/module/kallsyms.c). It is not changed after loading.
type KernelSymbols struct {
	starts []uint64 // sorted
	ends   []uint32 // where each one's name ends in names; it begins where the one before ends
	names  string
}

const (
	kallsyms = "/proc/kallsyms"
	// maxKernelSymbols bounds the functions kept; kernels have about 100 000.
	maxKernelSymbols = 1 << 20
	// maxKernelName is more than KSYM_NAME_LEN (512 since Linux 6.1) and what stands before a name.
	maxKernelName = 1 << 10 // so that offsets of names fit 32 bits, too
	// maxKernelFunction bounds the distance of an address from the function's
	// start: there are no sizes, and behind the last function is no code.
	maxKernelFunction = 1 << 20
)

// LoadKernelSymbols reads /proc/kallsyms. The error wraps ErrRestricted if the
// kernel hides addresses from us.
func LoadKernelSymbols() (*KernelSymbols, error) {
	file, err := os.Open(kallsyms)
	if err != nil {
		return nil, fmt.Errorf("load kernel symbols: %w", err)
	}
	defer file.Close()
	k, err := readKernelSymbols(file)
	if err != nil {
		return nil, fmt.Errorf("load kernel symbols from %s: %w", kallsyms, err)
	}
	return k, nil
}

// Lookup returns the function that a kernel address is in, and where it starts.
func (k *KernelSymbols) Lookup(addr uint64) (name string, start uint64, ok bool) {
	i := sort.Search(len(k.starts), func(i int) bool { return k.starts[i] > addr }) - 1
	if i < 0 || addr-k.starts[i] > maxKernelFunction {
		return "", 0, false
	}
	name = k.name(i)
	return name, k.starts[i], !endOfText(name)
}

// endOfText tells whether a name is that of a label behind the kernel's own code.
func endOfText(name string) bool { return name == "_etext" || name == "_einittext" }

// KernelFunction returns the function that a symbol names as the kernel prints it
// ("name" or "name [module]"), or "" if it is an address that has no name.
func KernelFunction(symbol string) string {
	name, _, _ := strings.Cut(symbol, " [")
	if endOfText(name) || strings.HasPrefix(name, "0x") {
		return ""
	}
	return name
}

func (k *KernelSymbols) name(i int) string {
	begin := uint32(0)
	if i > 0 {
		begin = k.ends[i-1]
	}
	return k.names[begin:k.ends[i]]
}

// kernelSymbol is a line while lines are read.
type kernelSymbol struct {
	start  uint64
	name   uint32 // where it begins in names
	length uint16
}

// readKernelSymbols reads text of the form "address type name[\t[module]]".
func readKernelSymbols(text io.Reader) (*KernelSymbols, error) {
	var (
		symbols = make([]kernelSymbol, 0, 1<<17)
		names   = make([]byte, 0, 4<<20)
		buf     = make([]byte, 256<<10)
		filled  int
		visible bool
	)
	for end := false; !end; {
		n, err := text.Read(buf[filled:])
		if end = errors.Is(err, io.EOF); err != nil && !end {
			return nil, err
		}
		filled += n
		rest := buf[:filled]
		for {
			line, after, whole := bytes.Cut(rest, []byte{'\n'})
			if !whole && !end {
				break
			}
			if s, name, ok := parseKernelSymbol(line); ok {
				visible = visible || s.start != 0
				s.name = uint32(len(names))
				names = append(names, name...)
				symbols = append(symbols, s)
			}
			rest = after
			if !whole {
				break
			}
		}
		if len(rest) > maxKernelName || len(symbols) > maxKernelSymbols {
			return nil, errors.New("unexpected format")
		}
		filled = copy(buf, rest)
	}
	if len(symbols) == 0 {
		return nil, errors.New("no functions in it")
	}
	if !visible {
		return nil, ErrRestricted
	}
	return compact(symbols, names), nil
}

// parseKernelSymbol parses a line; ok is false for data and malformed lines.
// The name shares the line's bytes.
func parseKernelSymbol(line []byte) (s kernelSymbol, name []byte, ok bool) {
	i := 0
	for ; i < len(line) && i < 16 && line[i] != ' '; i++ {
		digit := line[i] - '0'
		if digit > 9 {
			digit = line[i] - 'a' + 10
			if digit < 10 || digit > 15 {
				return s, nil, false
			}
		}
		s.start = s.start<<4 | uint64(digit)
	}
	if i == 0 || len(line) < i+4 || line[i] != ' ' || line[i+2] != ' ' {
		return s, nil, false
	}
	switch line[i+1] {
	case 'T', 't', 'W', 'w':
	default:
		return s, nil, false
	}
	name = line[i+3:]
	if tab := bytes.IndexByte(name, '\t'); tab >= 0 {
		name = name[:tab] // the module follows
	}
	if len(name) == 0 || len(name) > maxKernelName {
		return s, nil, false
	}
	s.length = uint16(len(name))
	return s, name, true
}

// compact sorts the functions and keeps the first name of each address.
func compact(symbols []kernelSymbol, names []byte) *KernelSymbols {
	ordered := func(a, b kernelSymbol) int { return cmp.Compare(a.start, b.start) }
	if !slices.IsSortedFunc(symbols, ordered) {
		slices.SortStableFunc(symbols, ordered)
	}
	symbols = slices.CompactFunc(symbols, func(a, b kernelSymbol) bool { return a.start == b.start })
	size := 0
	for _, s := range symbols {
		size += int(s.length)
	}
	k := &KernelSymbols{starts: make([]uint64, len(symbols)), ends: make([]uint32, len(symbols))}
	var kept strings.Builder
	kept.Grow(size)
	for i, s := range symbols {
		kept.Write(names[s.name:][:s.length])
		k.starts[i], k.ends[i] = s.start, uint32(kept.Len())
	}
	k.names = kept.String()
	return k
}
