package sampler

// The functions of the emulator that tell its states apart are in part static,
// and a stripped beam.smp does not name them. They are known by whom they call:
// exported functions that only they call together (erts/emulator/beam/
// erl_process.c and erl_gc.c, OTP 23 to 28).

// staticFunction is a static function of the emulator, and the exported functions
// it calls, and does not call.
type staticFunction struct {
	name  string
	calls []string
	not   []string
}

var staticFunctions = []staticFunction{
	{"handle_aux_work", []string{"erts_handle_yielded_ets_all_request"}, nil},
	{"scheduler_wait", []string{"erts_check_io", "erts_bump_timers", "ethr_event_twait"}, nil},
	{"suspend_scheduler", []string{"erts_bump_timers", "ethr_event_twait"}, []string{"erts_check_io"}},
	{"aux_thread", []string{"erts_check_io", "ethr_event_wait"}, []string{"erts_bump_timers"}},
	{"poll_thread", []string{"erts_check_io"}, []string{"erts_bump_timers", "ethr_event_wait"}},
}

// findStatics returns the names of the emulator's static functions by the
// addresses of their first instructions. read reads the emulator's machine code,
// which is at the addresses from begin to end; symbol finds exported functions;
// start finds the first instruction of the function that an address is in. What is
// not found (a build that inlined it, another architecture) is left out.
func findStatics(read func([]byte, uint64) error, begin, end uint64, symbol func(string) (uint64, bool), start func(uint64) uint64) map[uint64]string {
	wanted := map[uint64]string{} // by address
	for _, f := range staticFunctions {
		for _, name := range append(append([]string{}, f.calls...), f.not...) {
			if address, ok := symbol(name); ok {
				wanted[address] = name
			}
		}
	}
	callers := map[uint64]map[string]bool{} // by function: what it calls
	note := func(site, to uint64) {
		name, ok := wanted[to]
		if !ok {
			return
		}
		from := start(site)
		if callers[from] == nil {
			callers[from] = map[string]bool{}
		}
		callers[from][name] = true
	}
	piece := make([]byte, textPiece)
	for at := begin; at < end; at += textPiece - longestCall + 1 { // also calls that a piece ends within
		text := piece[:min(textPiece, end-at)]
		if read(text, at) != nil {
			return nil
		}
		eachCall(text, at, note)
	}
	names := map[uint64]string{}
	for _, f := range staticFunctions {
		for from, calls := range callers {
			if f.matches(calls) && from != 0 {
				names[from] = f.name
			}
		}
	}
	for _, exported := range []string{"erts_schedule"} { // calls the same, and has a name
		if address, ok := symbol(exported); ok {
			delete(names, address)
		}
	}
	return names
}

func (f *staticFunction) matches(calls map[string]bool) bool {
	for _, name := range f.calls {
		if !calls[name] {
			return false
		}
	}
	for _, name := range f.not {
		if calls[name] {
			return false
		}
	}
	return true
}

// The emulator's machine code is searched if it is not more than maxText, in pieces
// of textPiece bytes. longestCall is what the longest call takes.
const (
	maxText     = 32 << 20
	textPiece   = 64 << 10
	longestCall = 5
)

// findStatics looks for the emulator's static functions in its machine code.
func (d *decoder) findStatics() map[uint64]string {
	inside, ok := d.target.Symbol("erts_schedule")
	if !ok {
		return nil
	}
	mapping, ok := d.space.Find(inside)
	if !ok || mapping.Limit-mapping.Start > maxText {
		return nil
	}
	return findStatics(d.target.Memory.Read, mapping.Start, mapping.Limit, d.target.Symbol, func(site uint64) uint64 {
		return d.space.Symbol(site, true).Start
	})
}
