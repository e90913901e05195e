package native

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// installed returns objects of this architecture to test on: an emulator and
// libraries it uses, which differ in the tools that made them, and those named
// behind -args.
func installed(t testing.TB) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{
		"/usr/lib/erlang/erts-*/bin/beam.smp", "/lib/*-linux-gnu*/libc.so.6",
		"/usr/lib/*-linux-gnu*/libcrypto.so.[0-9]*", "/usr/lib/*-linux-gnu*/libstdc++.so.6",
		"/usr/*-linux-gnu/lib/libc.so.6", // of cross compilers
	} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, files...)
	}
	found = slices.DeleteFunc(append(found, flag.Args()...), func(path string) bool {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		_, err = newObject(file, "", &hostArchitecture)
		return errors.Is(err, errOther)
	})
	if len(found) == 0 {
		t.Skip("no emulator or library at the usual places")
	}
	return found
}

func openObject(t testing.TB, path string) *object {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	o, err := newObject(file, filepath.Base(path), &hostArchitecture)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return o
}

// Every row of .eh_frame of whole objects is what readelf says.
func TestRowsEqualReadelf(t *testing.T) {
	readelf := testsupport.RequireCommand(t, "readelf", "binutils")
	for _, path := range installed(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			o := openObject(t, path)
			cmd := exec.Command(readelf, "-W", "-wF", "-wN", path)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			check := rowCheck{t: t, object: o}
			for lines := bufio.NewScanner(out); lines.Scan(); {
				check.line(lines.Text())
			}
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			check.flush(check.limit)
			t.Logf("%d functions, %d rows", check.functions, check.rows)
			if check.rows == 0 {
				t.Error("no rows were compared")
			}
		})
	}
}

// rowCheck reads readelf's table: for each function a line with its range, one
// with the names of the columns, and then a row for each address.
type rowCheck struct {
	t               *testing.T
	object          *object
	columns         []string
	limit           uint64
	pending         []string // the row read last: it holds up to the next
	functions, rows int
	failures        int
}

func (c *rowCheck) line(text string) {
	fields := strings.Fields(text)
	switch {
	case len(fields) > 4 && fields[3] == "FDE":
		c.flush(c.limit)
		_, limit, _ := strings.Cut(fields[len(fields)-1], "..")
		c.limit = c.hex(limit)
		c.columns = []string{"LOC", "CFA", "ra"} // readelf omits this line where there is one row with the common rules
		c.functions++
	case len(fields) > 4 && fields[3] == "CIE":
		c.flush(c.limit)
		c.columns = nil
	case len(fields) > 1 && fields[0] == "LOC":
		if c.columns != nil {
			c.columns = fields
		}
	case len(fields) > 1 && len(fields[0]) == 16 && c.columns != nil:
		c.flush(c.hex(fields[0]))
		// A register is given by number and name: "r3 (rbx)".
		c.pending = slices.DeleteFunc(fields, func(f string) bool { return f[0] == '(' })
	}
}

func (c *rowCheck) hex(text string) uint64 {
	v, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		c.t.Fatalf("readelf: %v", err)
	}
	return v
}

// flush compares the pending row at its first and its last address.
func (c *rowCheck) flush(end uint64) {
	if c.pending == nil {
		return
	}
	start, fields := c.hex(c.pending[0]), c.pending
	c.pending = nil
	if start >= end {
		return // an empty range
	}
	for _, vaddr := range []uint64{start, end - 1} {
		var r row
		f, err := c.object.frame(vaddr)
		if err == nil {
			err = f.rowFor(vaddr, &hostArchitecture, &r)
		}
		if err != nil {
			c.fail("%#x: %v", vaddr, err)
			continue
		}
		for i := 1; i < len(fields) && i < len(c.columns); i++ {
			if strings.HasPrefix(c.columns[i], "v") {
				continue // a vector register of arm64: not tracked
			}
			if got := c.text(&r, c.columns[i]); got != fields[i] {
				c.fail("%#x: %s is %s, readelf says %s", vaddr, c.columns[i], got, fields[i])
			}
		}
		c.rows++
	}
}

func (c *rowCheck) fail(format string, arguments ...any) {
	if c.failures++; c.failures > 20 {
		c.t.Fatal("too many differences")
	}
	c.t.Errorf(format, arguments...)
}

// text writes one column as readelf does. It has "u" for both undefined and unspecified.
func (c *rowCheck) text(r *row, column string) string {
	rule := rule{}
	switch number, known := dwarfNames[column]; {
	case column == "CFA" && r.cfa.kind == ruleRegister:
		for name, n := range dwarfNames {
			if n == int(r.cfa.register) && name != "ra" {
				return fmt.Sprintf("%s%+d", name, r.cfa.offset)
			}
		}
		return "?"
	case column == "CFA":
		return "exp"
	case column == "ra" || known && number == int(r.returnColumn):
		rule = r.returnAddress
	case known:
		for _, s := range r.saved {
			if int(s.number) == number {
				rule = s.rule
			}
		}
	default:
		return "unknown register"
	}
	switch rule.kind {
	case ruleOffset:
		return fmt.Sprintf("c%+d", rule.offset)
	case ruleValueOffset:
		return fmt.Sprintf("v%+d", rule.offset)
	case ruleRegister:
		return fmt.Sprintf("r%d", rule.register)
	case ruleExpression:
		return "exp"
	case ruleValueExpression:
		return "vexp"
	case ruleSame:
		return "s"
	}
	return "u"
}
