package bpf

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// What Linux 5.4 knows, the oldest kernel that the programs have to load on.
// The enumerations of include/uapi/linux/bpf.h only ever grow at their end, so
// their last member in v5.4.286 bounds them.

// lastHelper is BPF_FUNC_tcp_gen_syncookie, number 110: __BPF_FUNC_MAPPER of
// v5.4 ends with it, and bpf_skb_output, 111, is the first of v5.5.
const lastHelper = asm.FnTcpGenSyncookie

// upgrades are the objects that are loaded where the kernel has more than 5.4,
// and the helpers that they need. Everything works without them.
var upgrades = map[string][]asm.BuiltinFunc{
	"names": {asm.FnSnprintf}, // v5.13
}

// rewrittenHelpers came with v5.5. cilium/ebpf replaces them at load by
// bpf_probe_read and bpf_probe_read_str where the kernel does not have them
// (fixupProbeReadKernel in its linker.go, v0.22.0).
var rewrittenHelpers = map[asm.BuiltinFunc]bool{
	asm.FnProbeReadUser:      true,
	asm.FnProbeReadKernel:    true,
	asm.FnProbeReadUserStr:   true,
	asm.FnProbeReadKernelStr: true,
}

// lastMapType is BPF_MAP_TYPE_DEVMAP_HASH, number 25 of enum bpf_map_type;
// v5.6 went on with BPF_MAP_TYPE_STRUCT_OPS.
const lastMapType = ebpf.DevMapHash

// knownMapFlags are BPF_F_NO_PREALLOC to BPF_F_CLONE, the flags of
// BPF_MAP_CREATE; v5.5 went on with BPF_F_MMAPABLE, 1 << 10.
const knownMapFlags = 1<<10 - 1

// lastProgramType is BPF_PROG_TYPE_CGROUP_SOCKOPT, number 25 of enum
// bpf_prog_type; v5.5 went on with BPF_PROG_TYPE_TRACING (fentry, fexit).
const lastProgramType = ebpf.CGroupSockopt

// lastAttachType is BPF_CGROUP_SETSOCKOPT, number 22 of enum bpf_attach_type;
// v5.5 went on with BPF_TRACE_RAW_TP.
const lastAttachType = ebpf.AttachCGroupSetsockopt

// knownProgramFlags are BPF_F_STRICT_ALIGNMENT, BPF_F_ANY_ALIGNMENT,
// BPF_F_TEST_RND_HI32 and BPF_F_TEST_STATE_FREQ, the flags of BPF_PROG_LOAD;
// v5.10 went on with BPF_F_SLEEPABLE, 1 << 4.
const knownProgramFlags = 1<<4 - 1

// maxInstructions is BPF_COMPLEXITY_LIMIT_INSNS of kernel/bpf/verifier.c and
// include/linux/bpf.h, since v5.2: both the longest program and the number of
// instructions that the verifier walks, loops unrolled. Only loading on an old
// kernel shows the latter; see scripts/vm.
const maxInstructions = 1_000_000

// Helpers by program type: all cases of tracing_func_proto and what builds on it
// in kernel/trace/bpf_trace.c of v5.4.286, of sk_filter_func_proto and
// bpf_base_func_proto in net/core/filter.c. A type that has no entry here is
// bounded by lastHelper alone.
var (
	tracingHelpers = []asm.BuiltinFunc{
		asm.FnMapLookupElem, asm.FnMapUpdateElem, asm.FnMapDeleteElem,
		asm.FnMapPushElem, asm.FnMapPopElem, asm.FnMapPeekElem,
		asm.FnProbeRead, asm.FnProbeReadStr, asm.FnKtimeGetNs, asm.FnTailCall,
		asm.FnGetCurrentPidTgid, asm.FnGetCurrentTask, asm.FnGetCurrentUidGid,
		asm.FnGetCurrentComm, asm.FnTracePrintk, asm.FnGetSmpProcessorId,
		asm.FnGetNumaNodeId, asm.FnPerfEventRead, asm.FnProbeWriteUser,
		asm.FnCurrentTaskUnderCgroup, asm.FnGetPrandomU32,
		asm.FnGetCurrentCgroupId, asm.FnSendSignal,
	}
	eventHelpers = []asm.BuiltinFunc{asm.FnPerfEventOutput, asm.FnGetStackid, asm.FnGetStack}

	filterHelpers = []asm.BuiltinFunc{
		asm.FnMapLookupElem, asm.FnMapUpdateElem, asm.FnMapDeleteElem,
		asm.FnMapPushElem, asm.FnMapPopElem, asm.FnMapPeekElem,
		asm.FnGetPrandomU32, asm.FnGetSmpProcessorId, asm.FnGetNumaNodeId,
		asm.FnTailCall, asm.FnKtimeGetNs, asm.FnSpinLock, asm.FnSpinUnlock, asm.FnTracePrintk,
		asm.FnSkbLoadBytes, asm.FnSkbLoadBytesRelative, asm.FnGetSocketCookie,
		asm.FnGetSocketUid, asm.FnPerfEventOutput,
	}

	helpersByType = map[ebpf.ProgramType][][]asm.BuiltinFunc{
		ebpf.Kprobe:        {tracingHelpers, eventHelpers, {asm.FnPerfEventReadValue, asm.FnOverrideReturn}}, // also uprobes
		ebpf.TracePoint:    {tracingHelpers, eventHelpers},
		ebpf.RawTracepoint: {tracingHelpers, eventHelpers},
		ebpf.PerfEvent:     {tracingHelpers, eventHelpers, {asm.FnPerfProgReadValue}},
		ebpf.SocketFilter:  {filterHelpers},
	}
)

// managedTypes are types whose fields the kernel manages inside map values:
// struct bpf_timer since v5.15, the others since v6.0 and later.
var managedTypes = map[string]bool{
	"bpf_timer": true, "bpf_dynptr": true, "bpf_list_head": true, "bpf_list_node": true,
	"bpf_rb_root": true, "bpf_rb_node": true, "bpf_refcount": true, "bpf_wq": true,
}
