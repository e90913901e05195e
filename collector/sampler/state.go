package sampler

import (
	"strings"

	"github.com/beamprof/beamprof/collector"
)

// role is what the presence of a frame in a stack says of the state.
type role uint8

const (
	roleNone          role = iota
	roleGC                 // collecting garbage
	rolePort               // running a driver
	rolePortCall           // may be running a driver, for a process
	roleCheckIO            // asking the kernel for I/O events
	roleAux                // deferred work of the VM's own
	roleSchedule           // the scheduler itself
	roleSchedulerWait      // the scheduler's loop without anything to run
	roleWait               // going to sleep or waking up
	roleBIF                // a built-in function was called
	roleNIF                // a native implemented function was called
	roleDirty              // a dirty scheduler's loop
	roleDirtyNIF           // calls a NIF on a dirty scheduler
	roleDirtyBIF           // calls a BIF on a dirty scheduler
	roleThreadLoop         // the loop of an aux or poll thread
	roleProcessMain        // the JIT's part of the scheduler
	roleExit               // a process ends; its last part is not the current one any more
)

// nativeRoles are functions of the emulator by what they are for: exported ones,
// and static ones as unstripped builds name them. The names are the same in OTP
// 23 to 28 (erts/emulator/beam, erts/emulator/sys/common, erts/lib_src).
var nativeRoles = map[string]role{
	"erts_garbage_collect":           roleGC,
	"erts_garbage_collect_nobump":    roleGC,
	"erts_garbage_collect_hibernate": roleGC,
	"erts_garbage_collect_literals":  roleGC,
	"erts_gc_after_bif_call_lhf":     roleGC,
	"erts_gc_after_bif_call":         roleGC,
	"erts_check_io":                  roleCheckIO,
	"driver_select":                  roleCheckIO,
	"erts_port_task_execute":         rolePort,
	"erts_port_output":               rolePortCall,
	"erts_port_control":              rolePortCall,
	"erts_port_call":                 rolePortCall,
	"erts_port_exit":                 rolePort,
	"erts_dist_command":              rolePort,
	"erts_async_ready_clean":         rolePort,
	"erts_check_async_ready":         rolePort,
	"handle_aux_work":                roleAux,
	"erts_continue_exit_process":     roleExit,
	"erts_schedule":                  roleSchedule,
	"suspend_scheduler":              roleSchedule,
	"scheduler_wait":                 roleSchedulerWait,
	"timerfd_settime":                roleWait, // erts_poll_wait sets the alarm clock
	"ethr_event_wait":                roleWait,
	"ethr_event_swait":               roleWait,
	"ethr_event_twait":               roleWait,
	"ethr_event_stwait":              roleWait,
	"erts_dirty_process_main":        roleDirty,
	"erts_call_dirty_nif":            roleDirtyNIF,
	"erts_call_dirty_bif":            roleDirtyBIF,
	"aux_thread":                     roleThreadLoop,
	"poll_thread":                    roleThreadLoop,
}

// globalRole tells what a global fragment of JIT code calls: the fragments are
// named in erts/emulator/beam/jit/x86/beam_asm_global.hpp.pl.
func globalRole(name string) role {
	name = strings.TrimPrefix(name, "global::")
	switch {
	case strings.HasPrefix(name, "call_nif"), name == "dispatch_nif":
		return roleNIF
	case strings.HasPrefix(name, "call_light_bif"), strings.HasPrefix(name, "call_bif"), name == "dispatch_bif":
		return roleBIF
	case name == "garbage_collect":
		return roleGC
	case name == "process_main":
		return roleProcessMain
	}
	return roleNone
}

// classify tells the state from the thread and the roles of its frames, leaf
// first, as the VM's own microstate accounting would (erl_msacc.h): the
// innermost marked activity wins. running tells that the thread runs an Erlang
// process, asleep that it is in a system call that waits for events.
func classify(kind collector.ThreadKind, roles []role, running, asleep bool) collector.State {
	if kind == collector.ThreadNative {
		return collector.StateNative
	}
	for _, r := range roles {
		switch r {
		case roleWait:
			asleep = true
		case roleGC:
			return collector.StateGC
		case rolePort:
			return collector.StatePort
		case roleCheckIO:
			if asleep {
				return collector.StateSleepWake
			}
			return collector.StateCheckIO
		case roleAux:
			return collector.StateAux
		case roleBIF, roleDirtyBIF:
			return collector.StateBIF
		case roleNIF, roleDirtyNIF:
			return collector.StateNIF
		case roleExit:
			return collector.StateEmulator
		case roleSchedulerWait:
			if asleep {
				return collector.StateSleepWake
			}
			return collector.StateBusyWait
		case roleSchedule:
			return collector.StateScheduling
		case roleThreadLoop, roleDirty:
			if asleep {
				return collector.StateSleepWake
			}
		}
	}
	switch {
	case running:
		return collector.StateEmulator
	case asleep:
		return collector.StateSleepWake
	}
	return collector.StateOther
}
