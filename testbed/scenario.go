package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Scenario is a load to put on a running cluster.
type Scenario struct {
	Name        string         // idle, ae, repair, churn, publish, connects, sockets, mixed1, mixed2, mixed3, demo
	Rates       map[string]int // per load, per second; those not named have their default
	Seconds     int            // of the window; 0 is 10
	Truth       bool           // take the exact truth of the window too
	TLS         bool           // clients use the TLS listener
	Connections string         // a CSV file to write each connection to; empty is none

	// Observe, if set, is called when the window begins, with a context that
	// ends with the window. Run waits for it to return.
	Observe func(ctx context.Context) error
}

func (s Scenario) arguments(command string) []string {
	arguments := []string{"--scenario", s.Name}
	if command != "" {
		arguments = append([]string{command}, arguments...)
	}
	if s.Seconds > 0 {
		arguments = append(arguments, "--duration", strconv.Itoa(s.Seconds))
	}
	if len(s.Rates) > 0 {
		var rates []string
		for _, load := range slices.Sorted(maps.Keys(s.Rates)) {
			rates = append(rates, fmt.Sprintf("%s=%d", load, s.Rates[load]))
		}
		arguments = append(arguments, "--rate", strings.Join(rates, ","))
	}
	if s.Truth {
		arguments = append(arguments, "--truth")
	}
	if s.TLS {
		arguments = append(arguments, "--load-tls")
	}
	if s.Connections != "" {
		arguments = append(arguments, "--connections", s.Connections)
	}
	return arguments
}

// Result is what happened in the window of a scenario (schema testbed.run/1).
type Result struct {
	Seconds float64 `json:"seconds"`
	Window  struct {
		Start uint64 `json:"start_monotonic_ns"` // CLOCK_MONOTONIC
		End   uint64 `json:"end_monotonic_ns"`
	} `json:"window"`
	Loads []Load       `json:"loads"`
	Nodes []NodeResult `json:"nodes"`
}

// Load is what a load knows that it did, until its end (which is after the window's).
type Load struct {
	Name string                     `json:"load"`
	Rate int                        `json:"rate"`
	Done map[string]json.RawMessage `json:"done"`
}

// Count returns one of the load's counts, 0 if it has none of that name.
func (l Load) Count(name string) int {
	count, _ := strconv.Atoi(string(l.Done[name]))
	return count
}

// NodeResult is what happened on one node in the window.
type NodeResult struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
	CPU  struct {
		Seconds float64            `json:"seconds"` // user and system, all threads, /proc/PID/stat
		Threads map[string]float64 `json:"threads"` // seconds by thread name, numbers folded to N
	} `json:"cpu"`
	Counters     map[string]int `json:"counters"`
	Distribution []Connection   `json:"distribution"`
	Truth        *Truth         `json:"truth"` // nil unless it was asked for
}

// Connection is the traffic with a peer as the VM counts it on the socket.
// With TLS only packets are counted.
type Connection struct {
	Peer            string `json:"peer"`
	SentBytes       uint64 `json:"sent"`
	SentPackets     uint64 `json:"sent_packets"`
	ReceivedBytes   uint64 `json:"received"`
	ReceivedPackets uint64 `json:"received_packets"`
}

// Truth is for whom a node worked in the window (schema testbed.truth/1).
type Truth struct {
	Records  int `json:"records"`
	Dropped  int `json:"dropped"` // records lost because the buffer was full
	Odd      int `json:"odd"`     // records that fit no slice
	Overhead struct {
		Slice int `json:"slice"` // nanoseconds that tracing adds to each slice, taken off
		Mark  int `json:"mark"`  // to the time around each mark, taken off
	} `json:"overhead"`
	ProcessCPUSeconds float64         `json:"process_cpu_seconds"`
	AttributedSeconds float64         `json:"attributed_seconds"`
	VMSeconds         float64         `json:"vm_seconds"` // the rest: busy wait, scheduling, polling, and the capture itself
	Workloads         []TruthWorkload `json:"workloads"`
	Rows              []TruthRow      `json:"rows"` // largest first
	Sent              struct {
		Workloads []TruthTraffic `json:"workloads"`
		Rows      []TruthRow     `json:"rows"` // largest first
	} `json:"sent"`
}

// TruthWorkload is the time of one workload.
type TruthWorkload struct {
	Workload           string  `json:"workload"`
	OnSchedulerSeconds float64 `json:"on_scheduler_seconds"`
	NativeSeconds      float64 `json:"native_seconds"` // on the NIF's threads
	Seconds            float64 `json:"seconds"`        // the sum of both
	Share              float64 `json:"share"`          // of the attributed seconds
}

// TruthTraffic is what was sent over the distribution for one workload.
type TruthTraffic struct {
	Workload string  `json:"workload"`
	Messages int     `json:"messages"`
	Bytes    int     `json:"bytes"` // of the messages, as they are between nodes, without control messages
	Share    float64 `json:"share"` // of the bytes
}

// TruthRow is what one kind of process did on one kind of request, for one
// workload and kind of caller. Time and traffic are in rows of their own.
type TruthRow struct {
	Kind        string `json:"kind"`
	Request     string `json:"request"`
	Workload    string `json:"workload"`
	Caller      string `json:"caller"` // kind of the process that asked, or none
	Nanoseconds int64  `json:"nanoseconds"`
	Scheduled   int    `json:"scheduled"` // times scheduled in
	Messages    int    `json:"messages"`
	Bytes       int    `json:"bytes"`
}

// Share returns a workload's share of the attributed seconds.
func (t *Truth) Share(workload string) float64 {
	for _, w := range t.Workloads {
		if w.Workload == workload {
			return w.Share
		}
	}
	return 0
}

// Run puts the load on the cluster and returns what happened.
func (c *Cluster) Run(ctx context.Context, s Scenario) (*Result, error) {
	var (
		result   *Result
		observer sync.WaitGroup
		observed error
	)
	window, endWindow := context.WithCancel(ctx)
	defer endWindow()
	err := c.run(ctx, append(s.arguments(""), "--state", c.state()), func(line []byte) error {
		var event struct {
			Event string `json:"event"`
		}
		if err := json.Unmarshal(line, &event); err != nil {
			return err
		}
		switch event.Event {
		case "window_start":
			if s.Observe != nil {
				observer.Go(func() { observed = s.Observe(window) })
			}
		case "window_end":
			endWindow()
		case "result":
			return json.Unmarshal(line, &result)
		}
		return nil
	})
	endWindow()
	observer.Wait()
	if err := errors.Join(err, observed); err != nil {
		return nil, err
	}
	if result == nil {
		return nil, fmt.Errorf("scenario %s gave no result", s.Name)
	}
	return result, nil
}

// Ablation is the CPU each load of a scenario costs alone (schema testbed.ablation/1).
type Ablation struct {
	Loads []struct {
		Name      string   `json:"load"`
		Rate      int      `json:"rate"`
		Workloads []string `json:"workloads"` // what a profiler should see of it
	} `json:"loads"`
	Nodes []struct {
		Name      string  `json:"name"`
		PID       int     `json:"pid"`
		IdleCores float64 `json:"idle_cores"` // CPU seconds per second without a load
		MixCores  float64 `json:"mix_cores"`  // with all loads together
		SumCores  float64 `json:"sum_cores"`  // idle and each load's own, added up: near MixCores unless the machine was saturated

		// The same without what the VM does for itself, by microstate accounting.
		MixWorkCores float64 `json:"mix_work_cores"`
		SumWorkCores float64 `json:"sum_work_cores"`

		Loads []struct {
			Name      string  `json:"load"`
			Cores     float64 `json:"cores"` // above idle
			Share     float64 `json:"share"` // of all loads'
			WorkCores float64 `json:"work_cores"`
			WorkShare float64 `json:"work_share"`
		} `json:"loads"`
	} `json:"nodes"`
}

// Ablation runs the scenario's loads one by one, and then together. Truth,
// Connections and Observe are not used.
func (c *Cluster) Ablation(ctx context.Context, s Scenario) (*Ablation, error) {
	s.Truth, s.Connections = false, ""
	var result *Ablation
	err := c.run(ctx, append(s.arguments("ablation"), "--state", c.state()), func(line []byte) error {
		return last(line, &result)
	})
	return result, err
}

// Traffic is known traffic over the distribution (schema testbed.dist/1).
type Traffic struct {
	Nodes []struct {
		Name     string `json:"name"`
		PID      int    `json:"pid"`
		Received struct {
			Calls int `json:"rpc_calls"`
			Casts int `json:"rpc_casts"`
			Bytes int `json:"rpc_bytes"` // of the payloads
		} `json:"received"`
		Distribution []Connection `json:"distribution"`
	} `json:"nodes"`
}

// Traffic sends so many calls and casts with payloads of so many bytes from
// each node to the process testbed_echo of the other: calls {echo, Payload},
// casts {tell, Payload}, and one more call, flush.
func (c *Cluster) Traffic(ctx context.Context, calls, casts, bytes int) (*Traffic, error) {
	var result *Traffic
	arguments := []string{"traffic", "--state", c.state(), "--calls", strconv.Itoa(calls), "--casts", strconv.Itoa(casts), "--bytes", strconv.Itoa(bytes)}
	err := c.run(ctx, arguments, func(line []byte) error { return last(line, &result) })
	return result, err
}

// last decodes a line if it is the result, and passes over all others.
func last(line []byte, result any) error {
	if !strings.Contains(string(line), `"event":"result"`) {
		return nil
	}
	return json.Unmarshal(line, result)
}
