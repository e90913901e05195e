package beam

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/beamprof/beamprof/collector/beam/memory"
)

// Info is what a VM says of itself in its memory.
type Info struct {
	PID        int    // in the pid namespace that /proc shows
	Executable string // of the emulator, as the VM's mount namespace names it
	Node       string // "nonode@nohost" if it is not distributed
	Release    string // OTP release: "25"
	ERTS       string // emulator version: "13.1.5"
	Flavor     string // "jit" or "emu"; debug builds have a suffix: "jit.debug"
	BusyWait   string // how long schedulers spin before they sleep: the flag +sbwt, "medium" without; empty if not known

	// Numbers of scheduler threads; those taken offline count.
	NormalSchedulers, DirtyCPUSchedulers, DirtyIOSchedulers int
}

// undistributed is the node name of a VM that is no node of a cluster.
const undistributed = "nonode@nohost"

// NodeName returns the node name, or nothing if the VM is not distributed.
func (info *Info) NodeName() string {
	if info.Node == undistributed {
		return ""
	}
	return info.Node
}

// Limits of what is believed.
const (
	maxSchedulers  = 1024 // ERTS_MAX_NO_OF_SCHEDULERS (erl_process.h, 23 to 27), of each kind
	maxNodeName    = 255  // erts_this_node_sysname_BUFFER (erl_node_tables.c)
	maxVersionText = 64
)

// uninitializedNode is erts_this_node_sysname before the node tables are set up (erl_node_tables.c).
const uninitializedNode = "uninitialized yet"

// isEmulator tells whether a program is an Erlang emulator, whatever its name
// is: only an emulator defines the functions that NIFs call.
func (i *image) isEmulator() bool {
	_, ok := i.lookup("enif_make_atom")
	return ok
}

// readInfo fills in what the VM's memory says; the error wraps ErrUnsupported
// or ErrStarting, and then what could be read is there nevertheless.
func (info *Info) readInfo(i *image, m memory.Reader) error {
	v := variables{image: i, memory: m}
	info.Release = v.text("etp_otp_release", maxVersionText)
	info.ERTS = v.text("etp_erts_version", maxVersionText)
	info.Flavor = v.flavor()
	info.BusyWait = readBusyWait(info.PID)
	if v.err != nil {
		return fmt.Errorf("%w: it does not tell its version (%w): builds that hide their symbols, as from OTP 29 on, are not supported yet", ErrUnsupported, v.err)
	}
	initialized := v.number("erts_initialized")
	info.Node = unquoteAtom(v.pointedText("erts_this_node_sysname", maxNodeName))
	info.NormalSchedulers = v.count("erts_no_schedulers")
	info.DirtyCPUSchedulers = v.count("erts_no_dirty_cpu_schedulers")
	info.DirtyIOSchedulers = v.count("erts_no_dirty_io_schedulers")
	if initialized == 0 || info.Node == uninitializedNode || info.NormalSchedulers == 0 {
		if v.err == nil || !errors.Is(v.err, errNoSymbol) {
			return ErrStarting
		}
	}
	if v.err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, v.err)
	}
	return nil
}

// executable returns the path of a process's program without the kernel's
// note that the file has been replaced since.
func executable(pid int) (string, error) {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return strings.TrimSuffix(path, " (deleted)"), err
}

// errNoSymbol says that the emulator does not define a variable we need.
var errNoSymbol = errors.New("no such symbol")

// variables reads global variables of the emulator. The first error is kept.
type variables struct {
	image  *image
	memory memory.Reader
	err    error
}

func (v *variables) fail(name string, err error) {
	if v.err == nil {
		v.err = fmt.Errorf("%s: %w", name, err)
	}
}

func (v *variables) address(name string) (uint64, bool) {
	s, ok := v.image.lookup(name)
	if !ok {
		v.fail(name, errNoSymbol)
	}
	return s.address, ok
}

// word reads a variable of 8 bytes, such as a pointer or a Uint.
func (v *variables) word(name string) uint64 {
	at, ok := v.address(name)
	if !ok {
		return 0
	}
	value, err := memory.Uint64(v.memory, at)
	if err != nil {
		v.fail(name, err)
	}
	return value
}

// number reads a variable of 4 bytes, an int.
func (v *variables) number(name string) uint32 {
	at, ok := v.address(name)
	if !ok {
		return 0
	}
	value, err := memory.Uint32(v.memory, at)
	if err != nil {
		v.fail(name, err)
	}
	return value
}

// count reads the number of schedulers of a kind, a Uint.
func (v *variables) count(name string) int {
	n := v.word(name)
	if n > maxSchedulers {
		v.fail(name, fmt.Errorf("%d schedulers are more than an emulator can have", n))
		return 0
	}
	return int(n)
}

// text reads an array of characters.
func (v *variables) text(name string, limit int) string {
	at, ok := v.address(name)
	if !ok {
		return ""
	}
	value, err := memory.String(v.memory, at, limit)
	if err != nil {
		v.fail(name, err)
	}
	return value
}

// pointedText reads the characters that a variable points to.
func (v *variables) pointedText(name string, limit int) string {
	at := v.word(name)
	if at == 0 {
		return ""
	}
	value, err := memory.String(v.memory, at, limit)
	if err != nil {
		v.fail(name, err)
	}
	return value
}

// flavor tells JIT from interpreter, and appends what changes the layout of
// the VM's structures. The variables are made for GDB macros (erl_init.c);
// etp_beamasm is there from OTP 24 on.
func (v *variables) flavor() string {
	flavor := "emu"
	if _, ok := v.image.lookup("etp_beamasm"); ok && v.number("etp_beamasm") != 0 {
		flavor = "jit"
	}
	for _, variant := range []struct{ variable, suffix string }{
		{"etp_debug_compiled", ".debug"},
		{"etp_lock_count", ".lcnt"},
		{"etp_lock_check", ".lockcheck"},
	} {
		if _, ok := v.image.lookup(variant.variable); ok && v.number(variant.variable) != 0 {
			flavor += variant.suffix
		}
	}
	return flavor
}
