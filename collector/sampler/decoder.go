package sampler

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/beam/gen"
	"github.com/beamprof/beamprof/collector/beam/jit"
	"github.com/beamprof/beamprof/collector/native"
)

// codeTable is what the decoder needs of a VM's JIT code (jit.Table).
type codeTable interface {
	Contains(pc uint64) bool
	Lookup(pc, at uint64) (jit.Function, bool)
	Version() uint64
}

// addressSpace is what the decoder needs of a VM's native code (native.Space).
type addressSpace interface {
	Unwind(regs *native.Registers, stack native.Stack, stop func(pc uint64) bool, pcs []uint64) ([]uint64, native.End)
	Symbol(pc uint64, leaf bool) native.Symbol
	Find(pc uint64) (*collector.Mapping, bool)
	Refresh() error
}

// decoder turns records of one VM into samples. It is used from one goroutine.
type decoder struct {
	target  *beam.Target
	code    codeTable
	space   addressSpace
	frames  *frames
	threads *threads
	people  *people
	ports   *ports
	peers   *peers

	// Reused from sample to sample.
	regs       native.Registers
	above      native.Stack
	pcs        []uint64
	spans      []span
	stack      []*collector.Frame
	roles      []role
	traffic    bool   // C code of a sample works on messages between nodes
	sure       bool   // who was sampled, or that it can't be told better
	only       string // spawnable of the JIT frame that a sample's Erlang part begins with
	sample     collector.Sample
	stores     map[uint64]bool // by return address into JIT code: savesStackPointer
	stored     uint64          // version of the code table stores is for
	direct     map[uint64]bool // by return address into native code: callsDirectly
	behaviours *gen.Table
	terms      copiedTerms
	y          []uint64

	chain       []collector.Caller
	chainStacks []*collector.Frame
	chainSpans  []span
}

func newDecoder(target *beam.Target, space *native.Space) *decoder {
	d := &decoder{
		target: target, code: target.Code, space: space,
		frames: newFrames(target.Code, space), threads: newThreads(target), people: newPeople(target),
		behaviours: gen.For(target.Release),
		stores:     map[uint64]bool{}, direct: map[uint64]bool{},
	}
	d.ports = newPorts(target, d.people)
	d.peers = newPeers(target)
	d.frames.statics = d.findStatics()
	return d
}

// decode turns a record into a sample, which is valid until the next call.
func (d *decoder) decode(r *record) *collector.Sample {
	s := &d.sample
	*s = collector.Sample{Time: r.Time, Thread: d.threads.get(int(r.Tid), r.Comm[:])}
	d.stack, d.roles, d.spans, d.only = d.stack[:0], d.roles[:0], d.spans[:0], ""
	d.traffic, d.sure = false, true
	for at := 0; at+8 <= len(r.kernel); at += 8 {
		d.push(d.frames.kernelFrame(binary.LittleEndian.Uint64(r.kernel[at:])))
	}
	e, known := d.nativeOf(r, s)
	root := ""
	if len(r.head) > 0 {
		if known {
			root = d.erlangPart(r, s, e)
		} else if d.threads.isJIT(int(r.Tid)) {
			s.Partial = true
			d.stack = append(d.stack, framePartial)
		}
		copied := beam.Copied{Name: r.Registered}
		if r.Flags&bpf.SampleIdentity != 0 {
			copied.InitialCall, copied.Collecting = r.Identity, slices.Contains(d.roles, roleGC)
		}
		s.Process, d.sure = d.people.get(r.Process, r.head, root, copied)
		d.asked(r, s)
	}
	s.Port = d.ports.get(r.Port)
	s.Peer = d.peers.of(r, s, d.traffic)
	s.State = classify(s.Thread.Kind, d.roles, r.Process != 0, waitsForEvents(&r.Header))
	s.Stack = d.stack
	return s
}

// keptFrames is how many frames are remembered from one window to the next.
const keptFrames = 1 << 15

// forget drops what is remembered, if it is much, so that it does not grow with
// the time a VM is sampled for. All kernel frames must have names.
func (d *decoder) forget() {
	if d.frames.size() > keptFrames {
		d.frames.forget()
	}
	d.people.forget()
	clear(d.ports.known)
}

// refresh looks for libraries that were loaded since, if there was a program
// counter outside of all that is known.
func (d *decoder) refresh() error {
	if !d.frames.unmapped {
		return nil
	}
	d.frames.unmapped = false
	d.frames.forgetNative()
	clear(d.direct)
	return d.space.Refresh()
}

func (d *decoder) push(f frame) {
	d.stack = append(d.stack, f.Frame)
	if f.role != roleNone {
		d.roles = append(d.roles, f.role)
	}
}

// nativeOf is nativePart, and takes a process that ended off the record if the
// scheduler has gone on to something else.
func (d *decoder) nativeOf(r *record, s *collector.Sample) (e uint64, known bool) {
	if r.Flags&bpf.SampleEnded == 0 {
		return d.nativePart(r, s)
	}
	head, process := r.head, r.Process
	r.head, r.Process = nil, 0
	e, known = d.nativePart(r, s)
	if slices.Contains(d.roles, roleExit) {
		r.head, r.Process = head, process
		e, known = r.headWord(d.target.Layout.Process.Stop), true
	}
	return e, known
}

// nativePart appends the native frames and the JIT frame they end at, and
// returns the Erlang stack pointer. known is false if it could not be told.
func (d *decoder) nativePart(r *record, s *collector.Sample) (e uint64, known bool) {
	layout := &d.target.Layout.Process
	stop := r.headWord(layout.Stop)
	if r.Flags&bpf.SampleNoRegisters != 0 {
		s.Partial = true
		d.stack = append(d.stack, frameNoStack)
		return d.boundary(r, stop)
	}
	regs := &d.regs
	setRegisters(regs, &r.Header)
	if d.code.Contains(regs.PC) {
		if d.pushJIT(place{regs.PC, true}, r) {
			return stop, true
		}
		return d.jitTop(r, regs, regs.PC, stop), true
	}
	recorded := native.Stack{Base: r.C_stack, Bytes: r.cStack}
	if len(r.boundary) > 0 {
		d.above = native.Stack{Base: r.Boundary, Bytes: r.boundary}
		recorded.Above = &d.above
	}
	pcs, end := d.space.Unwind(regs, recorded, d.code.Contains, d.pcs[:0])
	d.pcs = pcs
	bif := ""
	for i, pc := range pcs {
		f := d.frames.nativeFrame(place{pc, i == 0})
		if f.role == rolePortCall && d.inDriver(pcs[:i+1]) {
			f.role = rolePort
		}
		d.push(f)
		d.traffic = d.traffic || f.traffic
		if f.role == roleDirty && len(r.head) > 0 {
			d.suspended(r)
			return stop, true
		}
		if i == len(pcs)-1 && end == native.EndBoundary {
			bif = d.bifName(f.Frame, pc, i == 0)
		}
	}
	switch end {
	case native.EndBoundary:
		if bif != "" {
			d.appendCall(bif)
		}
		if d.pushJIT(place{regs.PC, false}, r) {
			return stop, true
		}
		return d.savedTop(r, regs, regs.PC, stop), true
	case native.EndRoot:
		return stop, len(r.head) > 0 && !d.threads.isJIT(int(r.Tid))
	}
	s.Partial = true
	d.stack = append(d.stack, framePartial)
	return d.boundary(r, stop)
}

// inDriver tells whether the last of some native frames, of a function that calls
// drivers, is doing so. It calls them through a pointer, and what it calls of the
// VM's own before and after that directly, and so on; all but allocators.
func (d *decoder) inDriver(pcs []uint64) bool {
	for i := len(pcs) - 1; i > 0; i-- {
		if !d.callsDirectly(pcs[i]) {
			callee := d.frames.nativeFrame(place{pcs[i-1], i == 1})
			return !strings.HasPrefix(callee.Function, "erts_")
		}
	}
	return false
}

// callsDirectly tells whether the call in native code before a return address names
// where it goes to. Read once per place.
func (d *decoder) callsDirectly(pc uint64) bool {
	if known, ok := d.direct[pc]; ok {
		return known
	}
	if len(d.direct) > maxFrames {
		clear(d.direct)
	}
	var code [8]byte
	direct := false
	if d.target.Memory.Read(code[:], pc-uint64(len(code))) == nil {
		eachCall(code[:], pc-uint64(len(code)), func(site, to uint64) {
			if pc-site > maxCall {
				return // another one before it
			}
			here, _ := d.space.Find(pc)
			there, known := d.space.Find(to)
			direct = known && here == there // else it only looks like one
		})
	}
	d.direct[pc] = direct
	return direct
}

// maxCall is how long a direct call is at most: 5 bytes on amd64, 4 on arm64.
const maxCall = 5

// boundary falls back on what is always at the same place: right below the base
// of the scheduler's C stack stands the return address into JIT code.
func (d *decoder) boundary(r *record, stop uint64) (e uint64, known bool) {
	if !d.threads.isJIT(int(r.Tid)) {
		return stop, len(r.head) > 0
	}
	last := r.boundary
	if len(last) == 0 {
		last = r.cStack
	}
	if len(last) < 8 {
		return 0, false
	}
	pc := binary.LittleEndian.Uint64(last[len(last)-8:])
	if !d.code.Contains(pc) {
		return 0, false
	}
	d.pushJIT(place{pc, false}, r)
	return stop, len(r.head) > 0
}

// pushJIT appends the frame of a place in JIT code. It reports true if that is
// the scheduler's loop: then a current process is on its way in or out, and its
// state is all in struct process.
func (d *decoder) pushJIT(p place, r *record) (suspended bool) {
	f := d.frames.jitFrame(p, r.Time)
	d.push(f)
	d.only = f.spawnable
	if f.role != roleProcessMain {
		return false
	}
	if len(r.head) > 0 {
		d.suspended(r)
	}
	return true
}

// jitTop returns the Erlang stack pointer of a thread that executes JIT code:
// the stack pointer, unless the code just switched to the C stack for a call.
func (d *decoder) jitTop(r *record, regs *native.Registers, pc, stop uint64) uint64 {
	if d.onErlangStack(r, regs.SP) {
		return regs.SP
	}
	return d.savedTop(r, regs, pc, stop)
}

// savedTop returns the Erlang stack pointer of a thread in C code called from
// JIT code, or about to be; regs are the registers at the JIT code's pc.
func (d *decoder) savedTop(r *record, regs *native.Registers, pc, stop uint64) uint64 {
	if d.target.Code.FrameLayout() == 0 && d.inRegister(pc) && regs.Valid>>framePointer&1 == 1 {
		if saved := regs.Reg[framePointer]; d.onErlangStack(r, saved) {
			return saved
		}
	}
	return stop
}

func (d *decoder) onErlangStack(r *record, at uint64) bool {
	layout := &d.target.Layout.Process
	return at >= r.headWord(layout.Heap) && at <= r.headWord(layout.HEnd) && at&7 == 0
}

// inRegister tells whether the call in JIT code before pc keeps the Erlang stack
// pointer in a register instead of storing it. Read once per place.
func (d *decoder) inRegister(pc uint64) bool {
	if v := d.code.Version(); v != d.stored || len(d.stores) > maxFrames {
		d.stored, d.stores = v, map[uint64]bool{}
	}
	if known, ok := d.stores[pc]; ok {
		return known
	}
	code := make([]byte, codeWindow)
	in := false
	if d.target.Memory.Read(code, pc-codeWindow) == nil {
		in, _ = savesStackPointer(code)
	}
	d.stores[pc] = in
	return in
}

// bifName returns the Erlang name of the C function that JIT code called, if it
// is a BIF.
func (d *decoder) bifName(f *collector.Frame, pc uint64, leaf bool) string {
	start := d.space.Symbol(pc, leaf).Start
	if start == 0 {
		return ""
	}
	name, _ := d.target.BIF(start)
	return name
}

// appendCall names the BIF or NIF of the C frames above.
func (d *decoder) appendCall(name string) {
	d.stack = append(d.stack, d.frames.bifFrame(name, d.stack[len(d.stack)-1]))
}

// suspended appends where a process is that executes no JIT code: where it will
// go on (Process.i), or the BIF or NIF that a dirty scheduler executes for it
// (Process.current).
func (d *decoder) suspended(r *record) {
	layout := &d.target.Layout.Process
	if i := r.headWord(layout.I); d.code.Contains(i) {
		f := d.frames.jitFrame(place{i, true}, r.Time)
		d.push(f)
		d.only = f.spawnable
		return
	}
	if name, ok := d.target.MFA(r.headWord(layout.Current)); ok {
		d.appendCall(name)
	}
}

// erlangPart appends the process's Erlang frames and returns the function at
// its root.
func (d *decoder) erlangPart(r *record, s *collector.Sample, e uint64) string {
	stack := erlangStack{
		top:        e,
		upper:      chunk{r.ErlangTop, r.top},
		lower:      chunk{r.ErlangRoot, r.root},
		normalExit: d.target.NormalExit,
	}
	ended := r.Flags&bpf.SampleEnded != 0
	if len(r.root) == 0 && len(r.top) == 0 && !ended {
		s.Partial = true
		d.stack = append(d.stack, framePartial)
		return ""
	}
	spans, missing, complete := stack.walk(d.code, d.spans)
	if ended && !complete {
		return "" // its heap is freed: what is there may be another's by now
	}
	d.spans = spans
	s.Truncated = missing >= 0
	d.stack = d.frames.appendErlang(d.stack, spans, missing, r.Time)
	switch {
	case !complete: // the last frame that was found is not the root
		s.Partial = true
		d.stack = append(d.stack, framePartial)
		return ""
	case len(spans) == 0: // nobody called the function that the process is in
		return d.only
	}
	return rootOf(d.stack)
}
