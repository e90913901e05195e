package sampler

import (
	"fmt"
	"strings"

	"github.com/beamprof/beamprof/collector"
)

// Frames that stand for what is not code or not known.
var (
	frameTruncated = marker("[truncated: the middle of a deep stack]")
	framePartial   = marker("[unwinding ended early]")
	frameNoStack   = marker("[no user stack]")
)

func marker(name string) *collector.Frame {
	return &collector.Frame{Kind: collector.FrameMarker, Function: name, Resolved: true}
}

// jitModule is the module of the JIT's own functions, where every process begins
// and ends (erts/emulator/beam/jit/beam_asm.h).
const jitModule = "erts_beamasm"

// place is a program counter and whether it is a leaf's (exact) or a caller's
// (a return address: the call is before it).
type place struct {
	pc   uint64
	leaf bool
}

// callSite returns the address that names the place: a return address may be
// the first byte of the next function.
func (p place) callSite() uint64 {
	if p.leaf {
		return p.pc
	}
	return p.pc - 1
}

// frame is an interned frame and the part it plays in telling the state.
type frame struct {
	*collector.Frame
	role      role
	traffic   bool   // it is work on messages between nodes
	spawnable string // the function, if a process can be spawned with it
}

// maxFrames bounds each of the frame tables; beyond it they are emptied, which
// costs time and loses nothing.
const maxFrames = 1 << 17

// frames interns frames by place.
type frames struct {
	code     codeTable
	space    addressSpace
	mapping  *collector.Mapping // [beam jit]
	unmapped bool               // a program counter was in no mapping
	statics  map[uint64]string  // static functions of the emulator, by first instruction
	version  uint64             // of the code table when the JIT frames were made

	jit     map[place]frame
	native  map[place]frame
	kernel  map[uint64]frame
	bifs    map[string]*collector.Frame
	folded  map[*collector.Frame]*collector.Frame
	kmap    *collector.Mapping
	kernels []*collector.Frame // those without a name yet
}

func newFrames(code codeTable, space addressSpace) *frames {
	f := &frames{
		code: code, space: space,
		mapping: &collector.Mapping{File: "[beam jit]"},
		kmap:    &collector.Mapping{File: "[kernel.kallsyms]"},
		kernel:  map[uint64]frame{},
		bifs:    map[string]*collector.Frame{},
		folded:  map[*collector.Frame]*collector.Frame{},
	}
	f.forgetJIT()
	f.forgetNative()
	return f
}

// size returns how many frames there are.
func (f *frames) size() int {
	return len(f.jit) + len(f.native) + len(f.kernel) + len(f.bifs) + len(f.folded)
}

// forget drops all frames. All kernel frames must have names.
func (f *frames) forget() {
	f.forgetJIT()
	f.forgetNative()
	f.kernel, f.bifs, f.folded = map[uint64]frame{}, map[string]*collector.Frame{}, map[*collector.Frame]*collector.Frame{}
}

// forgetJIT drops the names of JIT code: modules came or went.
func (f *frames) forgetJIT() { f.jit = map[place]frame{} }

// forgetNative drops the names of native code: the mappings changed.
func (f *frames) forgetNative() { f.native = map[place]frame{} }

// jitFrame returns the frame of a place in JIT code as of a time.
func (f *frames) jitFrame(p place, at uint64) frame {
	if v := f.code.Version(); v != f.version || len(f.jit) > maxFrames {
		f.version = v
		f.forgetJIT()
	}
	if known, ok := f.jit[p]; ok {
		return known
	}
	made := frame{Frame: &collector.Frame{Kind: collector.FrameErlang, Address: p.callSite(), Mapping: f.mapping}}
	if function, ok := f.code.Lookup(p.callSite(), at); ok {
		made.Function, made.Resolved = function.Name, true
		made.File, made.Line = function.Line(p.callSite())
		if function.Global {
			made.role = globalRole(function.Name)
		} else if function.Module != jitModule {
			made.spawnable = function.Name
		}
	} else {
		made.Function = fmt.Sprintf("[beam jit]+%#x", p.callSite())
	}
	f.jit[p] = made
	return made
}

// nativeFrame returns the frame of a place in native code.
func (f *frames) nativeFrame(p place) frame {
	if known, ok := f.native[p]; ok {
		return known
	}
	if len(f.native) > maxFrames {
		f.forgetNative()
	}
	symbol := f.space.Symbol(p.pc, p.leaf)
	if symbol.Mapping == nil {
		f.unmapped = true
	}
	if name, ok := f.statics[symbol.Start]; ok {
		symbol.Name, symbol.Resolved = name, true
	}
	if symbol.Resolved {
		symbol.Name = sourceName(symbol.Name)
	}
	made := frame{
		Frame: &collector.Frame{
			Kind: collector.FrameNative, Address: p.callSite(), Mapping: symbol.Mapping,
			Function: symbol.Name, Resolved: symbol.Resolved,
		},
		role:    nativeRoles[symbol.Name],
		traffic: symbol.Resolved && isTraffic(symbol.Name),
	}
	f.native[p] = made
	return made
}

// sourceName returns a C function's name without what the compiler appends to
// copies and parts of it: finish_task_switch.isra.0 is finish_task_switch.
func sourceName(name string) string {
	for _, suffix := range []string{".isra.", ".constprop.", ".part.", ".cold", ".lto_priv.", ".llvm."} {
		if at := strings.Index(name, suffix); at > 0 {
			name = name[:at]
		}
	}
	return name
}

// kernelFrame returns the frame of a kernel address; its name comes later.
func (f *frames) kernelFrame(pc uint64) frame {
	if known, ok := f.kernel[pc]; ok {
		return known
	}
	if len(f.kernel) > maxFrames {
		f.kernel = map[uint64]frame{}
	}
	made := frame{Frame: &collector.Frame{Kind: collector.FrameKernel, Address: pc, Mapping: f.kmap}}
	f.kernel[pc] = made
	f.kernels = append(f.kernels, made.Frame)
	return made
}

// bifFrame returns the frame that names a BIF or NIF by its Erlang name; its
// address is that of the C code.
func (f *frames) bifFrame(name string, code *collector.Frame) *collector.Frame {
	if known, ok := f.bifs[name]; ok {
		return known
	}
	made := &collector.Frame{
		Kind: collector.FrameErlang, Address: code.Address, Mapping: f.mapping,
		Function: name, Resolved: true,
	}
	f.bifs[name] = made
	return made
}

// foldedFrame returns the frame that stands for further recursion of one.
func (f *frames) foldedFrame(of *collector.Frame) *collector.Frame {
	if known, ok := f.folded[of]; ok {
		return known
	}
	made := marker("[recursion folded: " + of.Function + "]")
	f.folded[of] = made
	return made
}
