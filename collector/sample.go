// Package collector defines what the collectors produce: samples of a running
// Erlang VM, made of interned frames, a thread, a state and the Erlang process
// the thread was running. It knows nothing of output formats.
package collector

// FrameKind tells which world a frame belongs to.
type FrameKind uint8

// The kinds of frames. A stack holds them in this order, leaf first.
const (
	FrameKernel FrameKind = iota // kernel code
	FrameNative                  // C code of beam.smp, a library or a NIF
	FrameErlang                  // code the JIT made: a function or a global fragment
	FrameMarker                  // not code: tells of folded or missing frames
)

// Mapping is a range of the target's address space and the file behind it.
type Mapping struct {
	Start, Limit, Offset uint64 // bytes: first address, address after the last, offset in the file
	File                 string // as the target sees it, or [beam jit], [kernel.kallsyms], [vdso]
	BuildID              string // hexadecimal GNU build id, empty if there is none
}

// Frame is one place in code. Frames are interned by their producer: two
// samples at the same place share one *Frame, so pointers can be compared.
type Frame struct {
	Kind     FrameKind
	Address  uint64   // program counter (leaf) or return address; 0 for markers
	Mapping  *Mapping // nil for markers
	Function string   // "lists:map/2", "erts_schedule", "beam.smp+0x1234"
	File     string   // empty if not known
	Line     int      // 0 if not known
	Resolved bool     // Function is a name, not an offset or a placeholder
}

// ThreadKind is the role of an operating system thread inside the VM.
type ThreadKind uint8

// The roles; ThreadNative is a thread that is not the VM's own.
const (
	ThreadNative ThreadKind = iota
	ThreadScheduler
	ThreadDirtyCPU
	ThreadDirtyIO
	ThreadAux
	ThreadPoller
	ThreadAsync
	ThreadSignal
)

var threadNames = [...]string{"native", "scheduler", "dirty_cpu", "dirty_io", "aux", "poller", "async", "signal"}

// String returns the value of the label `thread` for the VM's own threads.
func (k ThreadKind) String() string { return threadNames[k] }

// Thread is one operating system thread of the target.
type Thread struct {
	TID    int        // in the host's pid namespace
	Kind   ThreadKind // from the VM's own tables where it keeps one
	Number int        // scheduler number from 1; 0 for threads without one
	Name   string     // the kernel's comm
}

// Label returns the value of the label `thread`: the role, or the OS name of a native thread.
func (t *Thread) Label() string {
	if t.Kind == ThreadNative {
		return t.Name
	}
	return t.Kind.String()
}

// State is what a thread was doing, one value per sample.
type State uint8

// The states of a thread; StateNative is a thread that is not the VM's own.
const (
	StateOther State = iota
	StateEmulator
	StateBIF
	StateNIF
	StateGC
	StatePort
	StateCheckIO
	StateAux
	StateScheduling
	StateBusyWait
	StateSleepWake
	StateNative
)

// States returns the values of the label `state`, by State.
func States() []string { return stateNames[:] }

var stateNames = [...]string{"other", "emulator", "bif", "nif", "gc", "port", "check_io", "aux", "scheduling", "busy_wait", "sleep_wake", "native"}

// String returns the value of the label `state`.
func (s State) String() string { return stateNames[s] }

// Process identifies an Erlang process. Values are interned per process
// incarnation and not changed after they were handed out.
type Process struct {
	PID            string // "<0.123.0>"
	Name           string // registered name, else initial call, else spawned function
	Kind           string // Name with group and index numbers folded: vmq_swc_db_metaN
	RegisteredName string // empty if not registered
	InitialCall    string // "module:function/arity", proc_lib's own initial call where there is one
	Parent         string // kind of the process that spawned it, empty if not known
}

// Port is a port of the VM. Values are interned and not changed.
type Port struct {
	ID     string   // "#Port<0.5>"
	Name   string   // as erlang:port_info(Port, name)
	Driver string   // "tcp_inet"
	Owner  *Process // the connected process; nil if nothing is known of it
}

// Caller is a process that waits for the reply of the process before it in a
// chain of calls to generic servers.
type Caller struct {
	Process     *Process
	Request     string   // tag of the request that it handles itself, or empty
	RequestType string   // as in Sample
	Stack       []*Frame // its Erlang stack, leaf first, without the frames missing in deep ones
}

// Sample is one tick of the sampling clock on one thread of the target.
type Sample struct {
	Time        uint64 // nanoseconds of CLOCK_MONOTONIC
	Thread      *Thread
	State       State
	Stack       []*Frame // leaf first; valid only during the callback
	Process     *Process // nil if the thread was running no Erlang process
	Port        *Port    // executed by the thread, for the process or on its own; nil if none
	Request     string   // tag of the gen call, cast or info in progress, or empty
	RequestType string   // call, cast, info, event, timeout, ...; empty if not known
	Peer        string   // node that is written to or read from: encoding, decoding, the connection's port and processes
	OnBehalfOf  string   // kind of the process that asked, or empty
	Callers     []Caller // who asked, and who asked that one, ...; valid only during the callback
	Truncated   bool     // frames are missing; a marker frame stands for them
	Partial     bool     // native unwinding ended before its boundary
}
