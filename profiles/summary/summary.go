// Package summary condenses samples into the few numbers an operator needs:
// summary.json, and the report that is printed from it.
//
// Its way through: builder.go counts samples, summary.go says what the result
// looks like, json.go reads and writes it, agreement.go judges whether it can
// be trusted, report.go shows it.
package summary

import (
	"net/netip"
	"slices"
	"time"

	"github.com/beamprof/beamprof/profiles/attribution"
)

// Schema names the format of summary.json. Readers accept fields they do not
// know; a change that breaks readers gets another number.
const Schema = "beamprof.summary/1"

// Summary is the content of summary.json. Sections that were not recorded are
// absent (nil), sections that were recorded and are empty are empty arrays.
// Seconds are seconds of CPU time, shares are parts of 1 of CPU.Seconds.
type Summary struct {
	Schema       string         `json:"schema"`
	Target       Target         `json:"target"`
	Window       Window         `json:"window"`
	CPU          CPU            `json:"cpu"`
	Warnings     []string       `json:"warnings,omitempty"` // what the user must know to read the numbers
	Rules        string         `json:"rules,omitempty"`    // the rule set that told the workloads
	Workloads    []Workload     `json:"workloads,omitempty"`
	Unattributed []Unattributed `json:"unattributed,omitempty"` // of what the workload unattributed consists; the busiest
	States       []Part         `json:"states"`
	Threads      []Part         `json:"threads"`
	Processes    []Process      `json:"processes"`     // the busiest
	ProcessKinds []ProcessKind  `json:"process_kinds"` // the same with equal ones taken together
	Requests     []Request      `json:"requests"`      // the busiest
	// Erlang functions and BIFs, each with the C and kernel code it called,
	// and C and kernel functions without what they called; the busiest.
	ErlangFunctions []Function    `json:"erlang_functions"`
	NativeFunctions []Function    `json:"native_functions"`
	Distribution    *Distribution `json:"distribution,omitempty"`
	Connections     *Connections  `json:"connections,omitempty"`
	LogFiles        []LogFile     `json:"log_files,omitempty"` // that were read
	Logs            []Log         `json:"logs,omitzero"`
	Diagnosis       []Diagnosis   `json:"diagnosis,omitempty"` // the likeliest cause first
	// What the rule set says of the causes: by which the diagnosis is made, also
	// that of several nodes together.
	Causes []attribution.Cause `json:"causes,omitempty"`
}

// Target is the VM that was profiled.
type Target struct {
	PID        int    `json:"pid"`
	Node       string `json:"node"` // empty if not distributed
	OTPRelease string `json:"otp_release"`
	ERTS       string `json:"erts_version"`
	Flavor     string `json:"flavor"` // jit or emu
	Schedulers int    `json:"schedulers"`
	BusyWait   string `json:"busy_wait,omitempty"` // the flag +sbwt, how long schedulers spin before they sleep: none to very_long; empty if not known
	Kernel     string `json:"kernel"`              // release
}

// How a recording ended, if not as planned.
const (
	EndedInterrupted  = "interrupted"
	EndedTargetExited = "target_exited"
)

// Window is the time that was profiled.
type Window struct {
	Start     time.Time `json:"start"`
	Duration  float64   `json:"duration_seconds"`
	Frequency int       `json:"frequency_hz"`
	Ended     string    `json:"ended,omitempty"` // empty if as planned, else an Ended constant
}

// CPU says how much was sampled and how good the samples are.
type CPU struct {
	// What all parts add up to: the sampled seconds, those of each kind of thread
	// weighed by the kernel's account of it.
	Seconds               float64 `json:"seconds"`
	SampledSeconds        float64 `json:"sampled_seconds"` // samples taken × period
	ProcessSeconds        float64 `json:"process_seconds"` // the kernel's account of the process over the same window; 0 if not known
	WithoutProcessSeconds float64 `json:"without_process_seconds"`
	Samples               uint64  `json:"samples"`
	Lost                  uint64  `json:"lost"`          // samples taken that did not arrive
	Truncated             uint64  `json:"truncated"`     // samples with frames left out
	Partial               uint64  `json:"partial"`       // samples whose native part was not unwound to its end
	WithoutStack          uint64  `json:"without_stack"` // samples whose stack was one of too many different ones
	UnsymbolizedFrames    uint64  `json:"unsymbolized_frames"`
}

// total returns Seconds, or what was sampled where those are not told.
func (c CPU) total() float64 {
	if c.Seconds > 0 {
		return c.Seconds
	}
	return c.SampledSeconds
}

// Part is a named part of the CPU time.
type Part struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"cpu_seconds"`
	Share   float64 `json:"share"`
}

// Workload is CPU time by its purpose; Basis says by what kind of evidence.
type Workload struct {
	Name    string             `json:"name"`
	Seconds float64            `json:"cpu_seconds"`
	Share   float64            `json:"share"`
	Basis   map[string]float64 `json:"basis"` // seconds by kind of evidence
	// Share of all CPU time but that of the workload vm: the share if the VM's
	// overhead were spread over the others pro rata. 0 for vm itself.
	WithoutVM float64 `json:"share_without_vm"`
}

// Unattributed is CPU time that no workload was found for, and why.
type Unattributed struct {
	Name    string  `json:"name"` // of a process kind and its request, a port or a thread
	Reason  string  `json:"reason"`
	Seconds float64 `json:"cpu_seconds"`
	Share   float64 `json:"share"`
}

// Process is one Erlang process.
type Process struct {
	Name      string             `json:"name"`
	Kind      string             `json:"kind"`
	PID       string             `json:"pid"`
	Seconds   float64            `json:"cpu_seconds"`
	Share     float64            `json:"share"`
	Workloads map[string]float64 `json:"workloads,omitempty"`
}

// ProcessKind is all Erlang processes of one kind.
type ProcessKind struct {
	Kind      string  `json:"kind"`
	Processes int     `json:"processes"` // how many of the kind were sampled
	Busiest   string  `json:"busiest"`   // pid of the busiest of them
	Seconds   float64 `json:"cpu_seconds"`
	Share     float64 `json:"share"`
}

// Request is what processes of a kind were asked, and by whom. One of Request
// and OnBehalfOf can be empty.
type Request struct {
	Kind       string  `json:"process_kind"`
	Request    string  `json:"request"`
	OnBehalfOf string  `json:"on_behalf_of"`
	Seconds    float64 `json:"cpu_seconds"`
	Share      float64 `json:"share"`
}

// Function is a function and where it is from.
type Function struct {
	Name    string  `json:"name"`
	Object  string  `json:"object,omitempty"` // file of native code without its directory, or [kernel]
	Seconds float64 `json:"cpu_seconds"`
	Share   float64 `json:"share"`
}

// Distribution is the traffic with other nodes.
type Distribution struct {
	Detail   string     `json:"detail"`                  // full, sampled or totals: how closely messages were looked at
	Every    uint32     `json:"sampled_every,omitempty"` // one message in so many was looked into, on average; 0 without messages
	Peers    []Peer     `json:"peers"`
	Messages []Messages `json:"messages,omitempty"` // those with the most bytes, over all peers
}

// Messages are those of one kind to one destination; estimates if sampled.
type Messages struct {
	Direction   string `json:"direction"` // sent or received
	Destination string `json:"destination"`
	RequestType string `json:"request_type"` // call, cast, event, reply, info or spawn; empty if it is none
	Request     string `json:"request"`
	Messages    uint64 `json:"messages"`
	Bytes       uint64 `json:"bytes"`
}

// Peer is the traffic with one other node.
type Peer struct {
	Node             string             `json:"node"`
	SentBytes        uint64             `json:"sent_bytes"`
	SentMessages     uint64             `json:"sent_messages"`
	ReceivedBytes    uint64             `json:"received_bytes"`
	ReceivedMessages uint64             `json:"received_messages"`
	UnknownSockets   int                `json:"unknown_sockets,omitempty"` // connections whose bytes are missing
	Workloads        map[string]float64 `json:"workloads"`                 // shares of the messages' bytes, 0 to 1; empty without messages
}

// Connections are those that clients made to the target's listeners.
type Connections struct {
	Detail    string     `json:"detail"` // a Detail constant: how closely connections were looked at
	Listeners []Listener `json:"listeners"`
	Remotes   []Remote   `json:"remotes,omitempty"` // the busiest remote addresses, over all listeners
	MQTT      *MQTT      `json:"mqtt,omitempty"`    // nil if no plain MQTT was seen: none spoken, opaque, or not looked at
	Clients   []Client   `json:"clients"`           // the MQTT clients that connected most often
	Lost      uint64     `json:"lost"`              // events that did not arrive
	// Changes of sockets, of any program of the host, that the kernel did not show:
	// so many connections may be missing in the totals.
	Uncounted uint64 `json:"uncounted,omitempty"`
}

// How closely connections were looked at.
const (
	DetailFull   = "full"
	DetailTotals = "totals" // not at what clients say: no MQTT, all protocols unknown
)

// What is spoken on a listener, as told by the first bytes of its connections.
const (
	ProtocolMQTT         = "mqtt"
	ProtocolTLS          = "tls"       // opaque
	ProtocolWebSocket    = "websocket" // opaque
	ProtocolHTTP         = "http"
	ProtocolDistribution = "distribution" // other Erlang nodes
	ProtocolVerneMQ      = "vernemq"      // other VerneMQ nodes, their link for messages
	ProtocolOther        = "other"
	ProtocolUnknown      = "unknown" // no bytes were seen
)

// Listener is what happened on one listening address.
type Listener struct {
	Address               string  `json:"address"`  // host:port
	Protocol              string  `json:"protocol"` // a Protocol constant: that of most connections
	Opened                uint64  `json:"opened"`
	OpenedPerSecond       float64 `json:"opened_per_second"`
	PeakPerSecond         float64 `json:"peak_per_second"` // in the busiest second
	Closed                uint64  `json:"closed"`
	ClosedByPeer          uint64  `json:"closed_by_peer"`   // of Closed, those that the client closed first
	ClosedByTarget        uint64  `json:"closed_by_target"` // of Closed, those that the VM closed first; the others broke
	ClosedBeforeConnack   uint64  `json:"closed_before_connack"`
	MedianLifetimeSeconds float64 `json:"median_lifetime_seconds"` // of those that were opened and closed in the window; 0 if none
}

// OfNodes tells whether other nodes connect there, and not clients.
func (l Listener) OfNodes() bool {
	return l.Protocol == ProtocolDistribution || l.Protocol == ProtocolVerneMQ
}

// MarkDistribution says on which ports other Erlang nodes connect: what is spoken
// there does not show with TLS, or where it was not looked at what is said.
func (c *Connections) MarkDistribution(ports []uint16) {
	for i := range c.Listeners {
		l := &c.Listeners[i]
		if at, err := netip.ParseAddrPort(l.Address); err == nil && slices.Contains(ports, at.Port()) {
			l.Protocol = ProtocolDistribution
		}
	}
}

// Remote is what one remote address did, without its port.
type Remote struct {
	Address string `json:"address"`
	Opened  uint64 `json:"opened"`
	Closed  uint64 `json:"closed"`
}

// MQTT is what was seen of plain MQTT, over all listeners.
type MQTT struct {
	Connects       uint64            `json:"connects"`        // CONNECT packets
	Connacks       uint64            `json:"connacks"`        // CONNACK packets, whatever they say
	Refused        uint64            `json:"refused"`         // of these, those that refuse
	WithoutConnack uint64            `json:"without_connack"` // connections closed after CONNECT and before CONNACK
	Clients        uint64            `json:"clients"`         // different client ids
	Repeated       uint64            `json:"repeated"`        // client ids with more than one CONNECT
	TakenOver      uint64            `json:"taken_over"`      // CONNECTs whose client id had a connection that was still open
	CleanSession   uint64            `json:"clean_session"`   // CONNECTs with the clean flag
	Versions       map[string]uint64 `json:"versions"`        // CONNECTs by version of the protocol: 3.1, 3.1.1, 5
}

// Client is one client and how often it connected, to how many nodes.
type Client struct {
	ID       string `json:"id"`
	Connects uint64 `json:"connects"`
	Nodes    int    `json:"nodes"` // 1, or more in a report of several nodes
	// Of Connects, those closed before their CONNACK, and those that came while
	// the client had another connection open.
	WithoutConnack uint64 `json:"without_connack,omitempty"`
	TakenOver      uint64 `json:"taken_over,omitempty"`
}

// LogFile is a log file that was read, with those it took the place of.
type LogFile struct {
	Path    string `json:"path"`
	Lines   uint64 `json:"lines"`
	Bytes   uint64 `json:"bytes"`
	Skipped uint64 `json:"skipped_bytes"` // written too fast to be read
}

// Log is a kind of log line that tells of trouble, and how often it was written.
type Log struct {
	Signal    string    `json:"signal"`
	Of        string    `json:"of,omitempty"`    // the signal of which it is the lines that repeat the ones before
	About     string    `json:"about,omitempty"` // what it tells
	Count     uint64    `json:"count"`           // in all that was read, also of before the window
	InWindow  uint64    `json:"in_window"`       // of these, those written in the window
	PerSecond float64   `json:"per_second"`      // in the window
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	Example   string    `json:"example"`
	// The most frequent values of the signal's fields, such as group, peer and count.
	Values []LogValues `json:"values,omitempty"`
}

// LogValues are the values of a signal's fields that came together, and how often.
type LogValues struct {
	Fields   map[string]string `json:"fields"`
	Count    uint64            `json:"count"`
	InWindow uint64            `json:"in_window"`
}

// Verdicts of a diagnosis.
const (
	VerdictLikely   = "likely"
	VerdictPossible = "possible"
	VerdictUnlikely = "unlikely"
	VerdictUnknown  = "unknown" // evidence is missing
)

// Diagnosis is a possible cause, judged by the evidence found.
type Diagnosis struct {
	Cause    string   `json:"cause"`
	About    string   `json:"about,omitempty"` // the cause in a sentence
	Verdict  string   `json:"verdict"`         // a Verdict constant
	Evidence []string `json:"evidence"`
	Advice   []string `json:"advice"`
	Surer    []string `json:"surer,omitempty"` // what would make the verdict surer
}
