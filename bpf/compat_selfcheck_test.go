package bpf

import (
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// TestViolationsAreFound shows that violations can fail: each specification
// breaks one rule, and has to be refused for that reason alone.
func TestViolationsAreFound(t *testing.T) {
	program := func(kind ebpf.ProgramType, instructions ...asm.Instruction) *ebpf.CollectionSpec {
		return &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{
			"p": {Type: kind, Instructions: append(instructions, asm.Return())},
		}}
	}
	perfEvent := func(instructions ...asm.Instruction) *ebpf.CollectionSpec {
		return program(ebpf.PerfEvent, instructions...)
	}
	withMap := func(m *ebpf.MapSpec) *ebpf.CollectionSpec {
		return &ebpf.CollectionSpec{Maps: map[string]*ebpf.MapSpec{"m": m}}
	}
	using := func(kind ebpf.ProgramType, m *ebpf.MapSpec) *ebpf.CollectionSpec {
		spec := program(kind, asm.LoadMapPtr(asm.R1, 0).WithReference("m"))
		spec.Maps = map[string]*ebpf.MapSpec{"m": m}
		return spec
	}
	value := func(member btf.Type) *ebpf.MapSpec {
		return &ebpf.MapSpec{Type: ebpf.Hash, Value: &btf.Struct{Name: "v", Members: []btf.Member{{Name: "f", Type: member}}}}
	}
	raw := func(op asm.OpCode, src asm.Register, offset int16) asm.Instruction {
		return asm.Instruction{OpCode: op, Src: src, Offset: offset}
	}
	relocated := btf.WithCORERelocationMetadata(asm.Mov.Imm(asm.R0, 0), &btf.CORERelocation{})
	noPreallocation := &ebpf.MapSpec{Type: ebpf.Hash, Flags: 1}
	call := asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoCall, Constant: -1}
	kernelCall := asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall}
	doubleWord := asm.LoadImmOp(asm.DWord)

	for name, test := range map[string]struct {
		spec *ebpf.CollectionSpec
		want string // empty: allowed
	}{
		"nothing":                  {perfEvent(asm.Mov.Imm(asm.R0, 0)), ""},
		"old helper":               {perfEvent(asm.FnKtimeGetNs.Call()), ""},
		"filter":                   {program(ebpf.SocketFilter, asm.FnSkbLoadBytes.Call(), asm.FnPerfEventOutput.Call()), ""},
		"filter that reads memory": {program(ebpf.SocketFilter, asm.FnProbeRead.Call()), "not in programs of type SocketFilter"},
		"rewritten helpers":        {perfEvent(asm.FnProbeReadUser.Call(), asm.FnProbeReadKernel.Call(), asm.FnProbeReadUserStr.Call(), asm.FnProbeReadKernelStr.Call()), ""},
		"first helper of 5.5":      {perfEvent(asm.FnSkbOutput.Call()), "helper is newer"},
		"last helper of 5.4":       {program(ebpf.XDP, asm.FnTcpGenSyncookie.Call()), ""},
		"ring buffer output":       {perfEvent(asm.FnRingbufOutput.Call()), "helper is newer"},
		"namespace pid":            {perfEvent(asm.FnGetNsCurrentPidTgid.Call()), "helper is newer"},
		"bpf_loop":                 {perfEvent(asm.FnLoop.Call()), "helper is newer"},
		"task registers":           {perfEvent(asm.FnTaskPtRegs.Call()), "helper is newer"},
		"helper of other programs": {perfEvent(asm.FnSkbLoadBytes.Call()), "not in programs of type PerfEvent"},
		"helper of one type":       {program(ebpf.Kprobe, asm.FnPerfProgReadValue.Call()), "not in programs of type Kprobe"},
		"tracing program":          {program(ebpf.Tracing), "type Tracing is newer"},
		"program without a type":   {program(ebpf.UnspecifiedProgram), "is newer"},
		"fentry attach type": {&ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{
			"p": {Type: ebpf.Kprobe, AttachType: ebpf.AttachTraceFEntry},
		}}, "attach type"},
		"uprobe_multi attach type": {&ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{
			"p": {Type: ebpf.Kprobe, AttachType: ebpf.AttachTraceUprobeMulti},
		}}, "attach type"},
		"sleepable program": {&ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{
			"p": {Type: ebpf.Kprobe, Flags: 1 << 4},
		}}, "flags 0x10"},
		"long program":           {perfEvent(slices.Repeat(asm.Instructions{asm.Mov.Imm(asm.R0, 0)}, maxInstructions)...), "are more than"},
		"CO-RE":                  {perfEvent(relocated), "CO-RE"},
		"BPF function":           {perfEvent(call), ""},
		"tail call":              {perfEvent(asm.FnTailCall.Call()), ""},
		"function and tail call": {perfEvent(call, asm.FnTailCall.Call()), "tail calls beside"},
		"kernel function":        {perfEvent(kernelCall), "5.13"},
		"atomic add":             {perfEvent(asm.StoreXAdd(asm.R1, asm.R2, asm.DWord)), ""},
		"atomic fetch":           {perfEvent(asm.FetchAdd.Mem(asm.R1, asm.R2, asm.DWord, 0)), "atomic"},
		"atomic or":              {perfEvent(asm.OrAtomic.Mem(asm.R1, asm.R2, asm.DWord, 0)), "atomic"},
		"compare and exchange":   {perfEvent(asm.CmpXchg.Mem(asm.R1, asm.R2, asm.DWord, 0)), "atomic"},
		"32-bit jump":            {perfEvent(asm.JEq.Imm32(asm.R0, 0, "")), ""},
		"long jump":              {perfEvent(raw(asm.OpCode(asm.Jump32Class).SetJumpOp(asm.Ja), 0, 0)), "long jumps"},
		"may_goto":               {perfEvent(raw(asm.OpCode(asm.JumpClass).SetJumpOp(asm.JCOND), 0, 0)), "jump is newer"},
		"signed division":        {perfEvent(asm.SDiv.Reg(asm.R0, asm.R1)), "signed division"},
		"signed move":            {perfEvent(raw(asm.MovSX8.Op(asm.RegSource), asm.R1, 0)), "sign-extending moves"},
		"address space cast":     {perfEvent(raw(asm.Mov.Op(asm.RegSource), asm.R1, 1)), "form of an arithmetic"},
		"byte order":             {perfEvent(asm.HostTo(asm.BE, asm.R0, asm.Word)), ""},
		"byte swap":              {perfEvent(asm.BSwap(asm.R0, asm.Word)), "bswap"},
		"load":                   {perfEvent(asm.LoadMem(asm.R0, asm.R1, 0, asm.Word)), ""},
		"sign-extending load":    {perfEvent(raw(asm.OpCode(asm.LdXClass).SetMode(asm.MemSXMode).SetSize(asm.Word), asm.R1, 0)), "sign-extending loads"},
		"packet load":            {program(ebpf.SocketFilter, asm.LoadAbs(0, asm.Word)), ""},
		"map value":              {perfEvent(raw(doubleWord, asm.PseudoMapValue, 0)), ""},
		"kernel variable":        {perfEvent(raw(doubleWord, 3, 0)), "64-bit immediate"},
		"function pointer":       {perfEvent(raw(doubleWord, asm.PseudoFunc, 0)), "64-bit immediate"},
		"perf event array":       {withMap(&ebpf.MapSpec{Type: ebpf.PerfEventArray}), ""},
		"last map type of 5.4":   {withMap(&ebpf.MapSpec{Type: ebpf.DevMapHash}), ""},
		"ring buffer":            {withMap(&ebpf.MapSpec{Type: ebpf.RingBuf}), "type RingBuf is newer"},
		"task storage":           {withMap(&ebpf.MapSpec{Type: ebpf.TaskStorage}), "is newer"},
		"memory-mapped map":      {withMap(&ebpf.MapSpec{Type: ebpf.Array, Flags: 1 << 10}), "flags 0x400"},
		"bloom filter hashes":    {withMap(&ebpf.MapSpec{Type: ebpf.Array, MapExtra: 3}), "map_extra"},
		"inner map":              {withMap(&ebpf.MapSpec{Type: ebpf.ArrayOfMaps, InnerMap: &ebpf.MapSpec{Type: ebpf.RingBuf}}), "inner map"},
		"timer":                  {withMap(value(&btf.Struct{Name: "bpf_timer"})), "bpf_timer"},
		"kernel pointer":         {withMap(value(&btf.Pointer{Target: &btf.TypeTag{Value: "kptr", Type: &btf.Void{}}})), "kernel objects"},
		"hash map":               {using(ebpf.PerfEvent, &ebpf.MapSpec{Type: ebpf.Hash}), ""},
		"allocating map":         {using(ebpf.PerfEvent, noPreallocation), "preallocated"},
		"allocating elsewhere":   {using(ebpf.TracePoint, noPreallocation), ""},
		"allocating inner map":   {using(ebpf.PerfEvent, &ebpf.MapSpec{Type: ebpf.ArrayOfMaps, InnerMap: noPreallocation}), "preallocated"},
		"kernel symbols":         {&ebpf.CollectionSpec{Types: specWith(t, &btf.Datasec{Name: ".ksyms"})}, ".ksyms"},
	} {
		t.Run(name, func(t *testing.T) {
			found := violations(test.spec)
			switch {
			case test.want == "" && len(found) > 0:
				t.Errorf("refused: %s", strings.Join(found, "; "))
			case test.want != "" && (len(found) != 1 || !strings.Contains(found[0], test.want)):
				t.Errorf("got %.300q, want one violation with %q", found, test.want)
			}
		})
	}
}

// TestUpgradesAreAllowedWhatTheyNeed shows that an upgrade's helper is refused
// elsewhere, and that its object is excused from no other rule.
func TestUpgradesAreAllowedWhatTheyNeed(t *testing.T) {
	spec := &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{
		"p": {Type: ebpf.RawTracepoint, Instructions: asm.Instructions{asm.FnSnprintf.Call(), asm.FnLoop.Call(), asm.Return()}},
	}}
	if found := violations(spec); len(found) != 2 {
		t.Errorf("without an upgrade: %q", found)
	}
	if found := violations(spec, upgrades["names"]...); len(found) != 1 || !strings.Contains(found[0], "Loop") {
		t.Errorf("as an upgrade: %q", found)
	}
}

// specWith returns BTF that holds one type.
func specWith(t *testing.T, single btf.Type) *btf.Spec {
	t.Helper()
	builder, err := btf.NewBuilder([]btf.Type{single}, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := builder.Spec()
	if err != nil {
		t.Fatal(err)
	}
	return spec
}
