package gen

// form is the form in which a frame holds a request.
type form uint8

const (
	plain        form = iota // the request of a call, as the callback gets it
	message                  // the message as it was received
	queue                    // a list that begins with {Type, Content}
	event                    // an event, as the handlers get it
	continuation             // {continue, Request}
)

func (f form) String() string {
	return [...]string{"request", "message", "queue", "event", "continue"}[f]
}

// frame is where one frame of a behaviour holds what we look for while it waits
// for a callback. The place of each Y register is the compiler's choice; the
// number of registers tells the clauses of one function apart.
type frame struct {
	words     int // Y registers of the frame
	request   int // number of the Y register, or none
	form      form
	from      int // number of the Y register that holds {Pid, Tag}, or none
	behaviour string
}

const none = -1

// tables are the frames by OTP release, of all its patch releases. They were
// made with slots/slots.escript; a test compares them with what it says of the
// OTP that is installed.
var tables = map[string]*Table{
	"25": {frames: map[string][]frame{
		"gen_server:handle_msg/6": {
			{10, 3, plain, 4, "gen_server"},
			{6, 5, message, none, "gen_server"},
		},
		"gen_server:handle_msg/7": { // with sys debug options
			{11, 3, plain, 4, "gen_server"},
			{7, 6, message, none, "gen_server"},
		},
		"gen_server:loop/7":                 {{8, 3, continuation, none, "gen_server"}},
		"gen_statem:loop_state_callback/11": {{13, 8, queue, none, "gen_statem"}},
		"gen_fsm:handle_msg/8":              {{11, 8, message, 2, "gen_fsm"}},
		"gen_fsm:handle_msg/9":              {{13, 10, message, 3, "gen_fsm"}}, // with sys debug options
		// The manager knows who asked, and a frame above it for what.
		"gen_event:handle_msg/6": {
			{5, none, plain, 0, "gen_event"},
			{4, none, plain, none, "gen_event"}, // notifications and other messages
			{6, none, plain, 1, "gen_event"},    // delete_handler
		},
		"gen_event:server_update/4":      {{6, 3, event, none, "gen_event"}},
		"gen_event:server_call_update/3": {{6, 3, plain, none, "gen_event"}},
	}},
}
