package attribution

// The causes of trouble that a rule set can say more about; profiles/diagnosis
// judges them.
const (
	ConnectionStorm   = "client_connection_storm"
	InconsistentState = "inconsistent_cluster_state"
	BusyWait          = "vm_busy_wait"
	NoneOfThese       = "none_of_these"
)

// Cause is what a rule set says of a possible cause. It is part of summary.json,
// so that what was recorded is judged by it wherever it is read.
type Cause struct {
	Name       string               `json:"name"`
	About      string               `json:"about"`
	Workloads  []string             `json:"workloads,omitempty"` // on which it spends CPU time
	Signals    []string             `json:"signals,omitempty"`   // that speak for it
	Thresholds map[string]Threshold `json:"thresholds"`          // all that thresholds lists for the cause
	Advice     []string             `json:"advice,omitempty"`    // what to do about it
}

// Threshold is a limit, and why it is there.
type Threshold struct {
	At      float64 `json:"at"`
	Because string  `json:"because"`
}

// Thresholds, by cause. Shares are parts of 1.
const (
	Share             = "share"               // of the CPU time: vm_busy_wait of all, others of all but the workload vm
	SomeShare         = "some_share"          // of it, for a possible
	Cores             = "cores"               // CPU seconds per second, below which nothing is the cause of a load
	ConnectsPerSecond = "connects_per_second" // connections to one node
	WithoutConnack    = "without_connack"     // part of the CONNECTs
	TakenOver         = "taken_over"          // part of the CONNECTs
	ConnectsPerClient = "connects_per_client" // CONNECTs per client id
	LinesPerSecond    = "lines_per_second"    // of all signals of the cause
	Lines             = "lines"               // of all signals of the cause, in the window
	RepeatingPart     = "part"                // of the lines that they are told from by repetition
)

// thresholds are those each cause has, and the largest value that makes sense.
var thresholds = map[string]map[string]float64{
	ConnectionStorm: {
		Share: 1, Cores: 1000, ConnectsPerSecond: 1e6, WithoutConnack: 1, TakenOver: 1, ConnectsPerClient: 1e6, LinesPerSecond: 1e6,
	},
	InconsistentState: {Share: 1, Cores: 1000, Lines: 1e6, RepeatingPart: 1},
	BusyWait:          {Share: 1, SomeShare: 1, Cores: 1000},
	NoneOfThese:       {Cores: 1000},
}

// Whole tells whether a cause is a known one with all its thresholds, each of
// which makes sense. Those that Parse returns are; one that was read from
// elsewhere may not be.
func (c *Cause) Whole() bool {
	known := thresholds[c.Name]
	for name, limit := range known {
		if t := c.Thresholds[name]; !(t.At > 0 && t.At <= limit) {
			return false
		}
	}
	return known != nil
}

// Cause returns what the set says of a cause; nil if it is not to be judged.
func (r *Rules) Cause(name string) *Cause {
	for i := range r.Causes {
		if r.Causes[i].Name == name {
			return &r.Causes[i]
		}
	}
	return nil
}
