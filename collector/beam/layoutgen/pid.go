package main

import "github.com/beamprof/beamprof/collector/beam"

// The two ways internal pids have been packed on 64-bit machines.
var (
	// classicPID has 28 bits of data behind the tag and the table slot in the upper half.
	classicPID = beam.PIDLayout{NumberBits: 15, SerialBits: 13, IndexShift: 32}
	// widePID has 60 bits of data behind the tag, whose lowest bits are the table slot.
	widePID = beam.PIDLayout{NumberBits: 28, SerialBits: 32, IndexShift: 4}
)

// pidLayouts names the packing of each release: _PID_NUM_SIZE and
// _PID_DATA_SIZE in erl_term.h, erts_ptab_id2pix in erl_ptab.h.
var pidLayouts = map[string]beam.PIDLayout{
	"25": classicPID, // 25.2.3
	"27": widePID,    // 27.3.4
}
