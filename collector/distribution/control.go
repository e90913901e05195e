package distribution

import "math/bits"

// operation is a kind of control message: DOP_* of erts/emulator/beam/dist.h
// (OTP 23 to 28) and "Protocol between Connected Nodes" of the distribution
// protocol's description.
type operation struct {
	name string
	// arity of the control message, and which of its elements is the receiver.
	arity, to int
	payload   bool // a message follows
}

var operations = [...]operation{
	1:  {"link", 3, 3, false},
	2:  {"send", 3, 3, true},
	3:  {"exit", 4, 3, false},
	4:  {"unlink", 3, 3, false},
	5:  {"node_link", 1, 0, false},
	6:  {"reg_send", 4, 4, true},
	7:  {"group_leader", 3, 3, false},
	8:  {"exit2", 4, 3, false},
	12: {"send_tt", 4, 3, true},
	13: {"exit_tt", 5, 3, false},
	16: {"reg_send_tt", 5, 4, true},
	18: {"exit2_tt", 5, 3, false},
	19: {"monitor_p", 4, 3, false},
	20: {"demonitor_p", 4, 3, false},
	21: {"monitor_p_exit", 5, 3, false},
	22: {"send_sender", 3, 3, true},
	23: {"send_sender_tt", 4, 3, true},
	24: {"payload_exit", 3, 3, true},
	25: {"payload_exit_tt", 4, 3, true},
	26: {"payload_exit2", 3, 3, true},
	27: {"payload_exit2_tt", 4, 3, true},
	28: {"payload_monitor_p_exit", 4, 3, true},
	29: {"spawn_request", 6, 5, true},
	30: {"spawn_request_tt", 7, 5, true},
	31: {"spawn_reply", 5, 3, false},
	32: {"spawn_reply_tt", 6, 3, false},
	33: {"alias_send", 3, 3, true},
	34: {"alias_send_tt", 4, 3, true},
	35: {"unlink_id", 4, 4, false},
	36: {"unlink_id_ack", 4, 4, false},
	37: {"altact_sig_send", 4, 4, true}, // with a trace token: 5
}

// Numbers of operations that are looked into.
const (
	operationSpawnRequest   = 29
	operationSpawnRequestTT = 30
	operationSpawnReply     = 31
	operationSpawnReplyTT   = 32
	operationAltact         = 37
)

// findOperation returns the operation of a control message.
func findOperation(control term) (number int, o operation, ok bool) {
	first := control.element(1)
	if first.kind != termInteger || first.number < 0 || first.number >= int64(len(operations)) {
		return 0, o, false
	}
	number = int(first.number)
	o = operations[number]
	arity := o.arity
	if number == operationAltact {
		flags := uint64(control.element(2).number)
		arity += bits.OnesCount64(flags & 2) // DOP_ALTACT_SIG_FLG_TOKEN
	}
	return number, o, o.name != "" && control.isTuple(arity)
}
