package summary

import (
	"fmt"
	"io"

	"github.com/beamprof/beamprof/profiles/text"
)

// limit is how many lines a list of the report has at most.
type limit struct{ screen, all int }

// The lists that are always there: together they fit a screen.
var (
	maxWorkloads = limit{6, 12}
	maxStates    = limit{3, 12}
	maxKinds     = limit{3, 20}
)

// The lists that do not fit a screen.
const (
	maxUnattributed = 10
	maxThreads      = 12
	maxRequests     = 20
	maxFunctions    = 20
)

func (r *report) limit(l limit) int {
	if r.style.All {
		return l.all
	}
	return l.screen
}

// minShare is the least share that gets its own line among states and threads.
const minShare = 0.0005

// Report prints the summary as text for people: what fits a screen, the
// diagnosis first, or all there is. profile is the path of the
// CPU profile that was recorded with it, for the commands that dig further;
// empty if there is none.
func (s *Summary) Report(w io.Writer, style Style, profile string) error {
	r := report{Summary: s, page: page{style: style.bounded()}}
	r.header()
	r.quality()
	r.diagnosis()
	if s.CPU.Samples > 0 {
		r.workloads()
		// Who is woken up for a known cause wants the cause, on one screen.
		if style.All || !s.found() {
			r.states()
			r.processes()
		}
	}
	if style.All {
		if s.CPU.Samples > 0 {
			r.unattributed()
			r.threads()
			r.requests()
			r.functions()
		}
		r.connections()
		r.logs()
		r.distribution()
	} else {
		r.brief()
	}
	switch {
	case s.CPU.Samples == 0 || profile == "":
	case style.All:
		r.further(profile)
	default:
		r.next(profile)
	}
	_, err := r.page.WriteTo(w)
	return err
}

type report struct {
	*Summary
	page
	nodes int // that the diagnosis is of; 0 is 1
}

func (r *report) header() {
	t, w := r.Target, r.Window
	name := text.Clean(t.Node)
	if name == "" {
		name = "a VM without a node name"
	}
	r.line(r.bold(text.Fit(name, r.style.Width, r.ellipsis())))
	if r.style.All {
		r.item("Target", fmt.Sprintf("pid %d, OTP %s (erts %s, %s), %s", t.PID, text.Clean(t.OTPRelease),
			text.Clean(t.ERTS), text.Clean(t.Flavor), plural(t.Schedulers, "scheduler")))
	}
	r.item("Window", fmt.Sprintf("%s, %s s at %d Hz, Linux %s",
		w.Start.UTC().Format("2006-01-02 15:04:05 UTC"), decimals(w.Duration, 1), w.Frequency, text.Clean(t.Kernel)))
	switch w.Ended {
	case EndedInterrupted:
		r.item("Ended", "early, by the user")
	case EndedTargetExited:
		r.item("Ended", "early, because the VM ended")
	}
}

// quality says how much CPU time there is and whether to trust the rest.
func (r *report) quality() {
	c, a := r.CPU, r.Agreement()
	weighted := decimals(c.total(), 2) != decimals(c.SampledSeconds, 2)
	agrees := a.OK || a.Chance && weighted
	cpu := decimals(c.total(), 2) + " s"
	if r.Window.Duration > 0 {
		cpu += fmt.Sprintf(" = %s cores", decimals(c.total()/r.Window.Duration, 2))
	}
	if agrees && a.Known {
		chance := ""
		if !a.OK {
			chance = ", by chance"
		}
		cpu += fmt.Sprintf("; %s s sampled, kernel counted %s s (%+.1f%%%s)", decimals(c.SampledSeconds, 2), decimals(c.ProcessSeconds, 2), 100*a.Difference, chance)
	}
	r.item("CPU", cpu)
	if r.style.All || c.Lost > 0 {
		r.item("Samples", fmt.Sprintf("%d taken, %d lost, %d truncated, %d partly unwound; %s of C code that has no names",
			c.Samples, c.Lost, c.Truncated, c.Partial, plural(c.UnsymbolizedFrames, "frame")))
	}
	switch {
	case agrees:
	case a.Known:
		warning := fmt.Sprintf("The samples stand for %s s, but the kernel counted %s s (%+.1f%%). Likely reason: %s.",
			decimals(c.SampledSeconds, 2), decimals(c.ProcessSeconds, 2), 100*a.Difference, a.Reason)
		if weighted {
			warning += " Each kind of thread is shown with the time that the kernel counted for it."
		}
		r.warning(warning)
	default:
		r.warning("The sampled CPU time could not be checked: " + a.Reason + ".")
	}
	if c.WithoutStack > 0 {
		r.warning(plural(c.WithoutStack, "sample") + " came with too many different stacks to keep theirs: the profile has their time and labels only. Record shorter, or at a lower --frequency.")
	}
	for _, warning := range r.Warnings {
		r.warning(text.Clean(warning))
	}
	if c.Samples == 0 {
		r.warning("No samples: the VM used no CPU time while it was profiled, or too little to be seen at this frequency.")
	}
}

var stateNotes = map[string]string{
	"emulator":   "Erlang code",
	"bif":        "built-in functions",
	"nif":        "native functions",
	"gc":         "garbage collection",
	"port":       "ports: sockets, drivers",
	"check_io":   "polling for I/O",
	"aux":        "timers, other work of the VM",
	"scheduling": "choosing what to run next",
	"busy_wait":  "spinning for work (+sbwt)",
	"sleep_wake": "going to sleep, waking up",
	"other":      "VM code of no known kind",
	"native":     "threads not the VM's own",
}

var threadNotes = map[string]string{
	"scheduler": "Erlang processes, ports",
	"dirty_cpu": "long native calls",
	"dirty_io":  "native calls that wait",
	"aux":       "work put aside",
	"poller":    "wait for I/O",
	"async":     "drivers' thread pool",
	"signal":    "operating system signals",
}

func (r *report) states() {
	r.heading("WHAT THE CPU DID", "")
	r.parts(r.States, r.limit(maxStates), stateNotes, "")
}

func (r *report) threads() {
	r.heading("IN WHICH THREADS", "")
	r.parts(r.Threads, maxThreads, threadNotes, "not the VM's own")
}

// parts prints a line with a bar per part, and one for the rest.
func (r *report) parts(parts []Part, limit int, notes map[string]string, unknown string) {
	var rows []row
	rest := row{seconds: r.CPU.total(), share: 1, name: "others"}
	for _, p := range parts {
		if len(rows) == limit || p.Share < minShare {
			break
		}
		note, ok := notes[p.Name]
		if !ok {
			note = unknown
		}
		rows = append(rows, row{p.Seconds, p.Share, text.Clean(p.Name), note})
		rest.seconds -= p.Seconds
		rest.share -= p.Share
	}
	if len(rows) < len(parts) && rest.share >= minShare {
		rows = append(rows, rest)
	}
	r.rows(rows, true)
}

func (r *report) processes() {
	r.heading("FOR WHICH PROCESSES", "")
	without := row{seconds: r.CPU.WithoutProcessSeconds, name: "no process", note: "the VM's own work, native threads"}
	without.share = without.seconds / r.CPU.total()
	rest := row{seconds: r.CPU.total() - without.seconds, share: 1 - without.share, name: "other processes"}
	var rows []row
	for _, k := range r.ProcessKinds[:min(len(r.ProcessKinds), r.limit(maxKinds))] {
		name, note := r.kind(k)
		rows = append(rows, row{k.Seconds, k.Share, name, note})
		rest.seconds -= k.Seconds
		rest.share -= k.Share
	}
	for _, last := range []row{rest, without} {
		if last.share >= minShare {
			rows = append(rows, last)
		}
	}
	r.rows(rows, false)
}

// kind returns how a kind of processes is shown: one alone by its own name.
func (r *report) kind(k ProcessKind) (name, note string) {
	busiest := Process{}
	for _, p := range r.Processes {
		if p.Kind == k.Kind && p.PID == k.Busiest {
			busiest = p
			break
		}
	}
	name = text.Clean(k.Kind)
	switch {
	case k.Processes == 1:
		if busiest.Name != "" {
			name = text.Clean(busiest.Name)
		}
		note = text.Clean(k.Busiest)
	case k.Processes > 1:
		note = plural(k.Processes, "process")
		if busiest.Seconds > 0 {
			note += fmt.Sprintf(", top %s %.1f%%", text.Clean(k.Busiest), 100*busiest.Share)
		}
	}
	return name, note
}

func (r *report) requests() {
	if len(r.Requests) == 0 {
		return
	}
	r.heading("ON WHOSE BEHALF", "requests in progress, and who asked")
	var rows []row
	for _, q := range r.Requests[:min(len(r.Requests), maxRequests)] {
		name, note := text.Clean(q.Kind), ""
		if name == "" {
			name = "no process"
		}
		if q.Request != "" {
			name += " " + r.arrow() + " " + text.Clean(q.Request)
		}
		if q.OnBehalfOf != "" {
			note = "for " + text.Clean(q.OnBehalfOf)
		}
		rows = append(rows, row{q.Seconds, q.Share, name, note})
	}
	r.rows(rows, false)
}

func (r *report) functions() {
	if len(r.ErlangFunctions) == 0 {
		return
	}
	r.heading("ERLANG FUNCTIONS", "and the C and kernel code they called")
	var rows []row
	for _, f := range r.ErlangFunctions[:min(len(r.ErlangFunctions), maxFunctions)] {
		rows = append(rows, row{f.Seconds, f.Share, text.Clean(f.Name), ""})
	}
	r.rows(rows, false)
}

func plural[N int | uint64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if what == "process" {
		what += "e"
	}
	return fmt.Sprintf("%d %ss", n, what)
}
