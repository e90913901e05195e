package testbed

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// build is where the tests compile the system, once.
var build string

func TestMain(m *testing.M) {
	directory, err := os.MkdirTemp("", "testbed-build.")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	build = directory
	status := m.Run()
	os.RemoveAll(directory)
	os.Exit(status)
}

func require(t *testing.T) {
	t.Helper()
	testsupport.RequireErlang(t)
	testsupport.RequireCommand(t, "cc", "gcc")
	t.Setenv("BEAMPROF_ERL", testsupport.Erl())
}

func start(t *testing.T, options Options) *Cluster {
	t.Helper()
	require(t)
	options.Build = build
	options.MaxLife = 3 * time.Minute
	c, err := Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
		nothingIsLeft(t, c.directory)
	})
	return c
}

// nothingIsLeft fails the test if the directory is there or a process that was started in it.
func nothingIsLeft(t *testing.T, directory string) {
	t.Helper()
	if _, err := os.Stat(directory); err == nil {
		t.Errorf("%s is still there", directory)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range commands {
		line, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(line), directory) {
			t.Errorf("still running: %s", strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
}

func run(t *testing.T, c *Cluster, s Scenario) *Result {
	t.Helper()
	result, err := c.Run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Nodes) != 2 || len(result.Loads) == 0 {
		t.Fatalf("%s: %d nodes and %d loads in the result", s.Name, len(result.Nodes), len(result.Loads))
	}
	for _, node := range result.Nodes {
		if node.CPU.Seconds <= 0 {
			t.Errorf("%s: %s used no CPU", s.Name, node.Name)
		}
		if truth := node.Truth; s.Truth && (truth == nil || truth.Dropped != 0 || truth.Odd > truth.Records/1000) {
			t.Errorf("%s: no good truth of %s: %+v", s.Name, node.Name, truth)
		}
	}
	return result
}

func sum(result *Result, counter string) int {
	total := 0
	for _, node := range result.Nodes {
		total += node.Counters[counter]
	}
	return total
}

// mostly fails the test unless the workloads have nearly all of a node's attributed time.
func mostly(t *testing.T, node NodeResult, workloads ...string) {
	t.Helper()
	share := 0.0
	for _, w := range workloads {
		share += node.Truth.Share(w)
	}
	if share < 0.9 {
		t.Errorf("%v has %.3f of %s's time: %+v", workloads, share, node.Name, node.Truth.Workloads)
	}
}

func readLog(t *testing.T, c *Cluster, node int) string {
	t.Helper()
	text, err := os.ReadFile(c.Nodes[node].Logs[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var synced = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \[info\] <\d+\.\d+\.\d+>@vmq_swc_exchange_fsm:local_sync_repair:\{\d+,\d+\} ` +
	`Replica meta(\d+): AE exchange with 'VerneMQ1@127\.0\.0\.1' synced (\d+) objects$`)

// syncedObjects sums what the log of the pulling node says of its exchanges.
func syncedObjects(t *testing.T, c *Cluster) (exchanges, objects int) {
	t.Helper()
	for _, match := range synced.FindAllStringSubmatch(readLog(t, c, 1), -1) {
		n, _ := strconv.Atoi(match[2])
		exchanges, objects = exchanges+1, objects+n
	}
	return exchanges, objects
}

func TestScenarios(t *testing.T) {
	c := start(t, Options{})

	t.Run("ae", func(t *testing.T) {
		result := run(t, c, Scenario{Name: "ae", Seconds: 2, Truth: true})
		exchanges, objects := syncedObjects(t, c)
		repeated := strings.Count(readLog(t, c, 1), "synced 200 objects")
		// The exchanges that ran when the load was ended may have got less.
		if n := result.Loads[0].Count("ae_objects_synced"); repeated == 0 || repeated < exchanges-10 || objects < n {
			t.Errorf("the log has %d exchanges, %d of 200 objects, %d objects in all, the load %d", exchanges, repeated, objects, n)
		}
		for _, node := range result.Nodes {
			mostly(t, node, "ae_exchange")
		}
	})
	t.Run("repair", func(t *testing.T) {
		_, before := syncedObjects(t, c)
		done := run(t, c, Scenario{Name: "repair", Seconds: 1}).Loads[0]
		_, after := syncedObjects(t, c)
		if seeded := done.Count("seeded"); seeded == 0 || after-before != seeded || done.Count("ae_objects_synced") == 0 {
			t.Errorf("%d objects were repaired in all, the load %s", after-before, done.Done)
		}
	})
	t.Run("churn", func(t *testing.T) {
		connections := filepath.Join(t.TempDir(), "connections.csv")
		result := run(t, c, Scenario{Name: "churn", Seconds: 2, Truth: true, Connections: connections})
		done := result.Loads[0]
		if opened := done.Count("opened"); opened == 0 || opened != done.Count("started") || done.Count("closed_before_connack") == 0 {
			t.Errorf("not a storm: %s", done.Done)
		}
		if received := sum(result, "mqtt_connect_received"); received == 0 || received > done.Count("connect_sent") {
			t.Errorf("%d CONNECTs were received of %d", received, done.Count("connect_sent"))
		}
		lines, err := os.ReadFile(connections)
		if err != nil || strings.Count(string(lines), "\n") != done.Count("finished") {
			t.Errorf("%d connections are noted, want %d: %v", strings.Count(string(lines), "\n"), done.Count("finished"), err)
		}
		for _, node := range result.Nodes {
			mostly(t, node, "client_churn", "replication")
		}
	})
	t.Run("publish", func(t *testing.T) {
		// So much that the idle nodes' own exchanges, and what is left of the scenario before, do not count.
		const rate = 12000
		result := run(t, c, Scenario{Name: "publish", Seconds: 1, Truth: true, Rates: map[string]int{"publish": rate}})
		done := result.Loads[0]
		if n := done.Count("published"); n < rate || done.Count("delivered") != n {
			t.Errorf("not all was delivered: %s", done.Done)
		}
		if sum(result, "cluster_messages_sent") == 0 {
			t.Error("nothing went over the cluster link")
		}
		for _, node := range result.Nodes {
			mostly(t, node, "message_routing")
		}
	})
	t.Run("sockets", func(t *testing.T) {
		result := run(t, c, Scenario{Name: "sockets", Seconds: 1})
		if done := result.Loads[0]; done.Count("opened") != done.Count("started") || sum(result, "mqtt_connect_received") != 0 {
			t.Errorf("not only bare connections: %s", done.Done)
		}
	})
	t.Run("demo", func(t *testing.T) {
		observed := false
		result := run(t, c, Scenario{Name: "demo", Seconds: 1, Observe: func(ctx context.Context) error {
			<-ctx.Done()
			observed = true
			return nil
		}})
		if len(result.Loads) != 3 || !observed {
			t.Errorf("%d loads, observed: %v", len(result.Loads), observed)
		}
	})
	t.Run("ablation", func(t *testing.T) {
		result, err := c.Ablation(t.Context(), Scenario{Name: "publish", Seconds: 1})
		if err != nil {
			t.Fatal(err)
		}
		for _, node := range result.Nodes {
			if len(node.Loads) != 1 || node.MixCores <= 0 {
				t.Errorf("ablation of %s: %+v", node.Name, node)
			}
		}
	})
	t.Run("usage", func(t *testing.T) {
		for _, s := range []Scenario{{Name: "nonsense"}, {Name: "ae", Rates: map[string]int{"churn": 1}}} {
			if _, err := c.Run(t.Context(), s); err == nil {
				t.Errorf("scenario %q with %v was run", s.Name, s.Rates)
			}
		}
	})
	t.Run("traffic", func(t *testing.T) {
		const calls, casts, bytes = 20, 30, 100_000
		result, err := c.Traffic(t.Context(), calls, casts, bytes)
		if err != nil {
			t.Fatal(err)
		}
		for _, node := range result.Nodes {
			if r := node.Received; r.Calls != calls || r.Casts != casts || r.Bytes != (calls+casts)*bytes {
				t.Errorf("%s received %+v", node.Name, r)
			}
			if d := node.Distribution; len(d) != 1 || d[0].SentBytes < (calls+casts)*bytes {
				t.Errorf("%s sent %+v", node.Name, d)
			}
		}
	})
	t.Run("unknown sync event", func(t *testing.T) {
		// A session is taken over at the moment in which its queue cannot be: not in every storm.
		event := regexp.MustCompile(`\[error\] .* got unknown sync event in \w+ state \{cleanup,session_taken_over\}`)
		for storms := 0; !event.MatchString(readLog(t, c, 0) + readLog(t, c, 1)); storms++ {
			if storms == 8 {
				t.Fatal("the storms left no unknown sync event in the logs")
			}
			run(t, c, Scenario{Name: "churn", Seconds: 2})
		}
	})
}

func TestTLS(t *testing.T) {
	testsupport.RequireCommand(t, "openssl", "openssl")
	c := start(t, Options{TLS: true, DistTLS: true, LogFormat: "logger", BusyWait: "none", Schedulers: 1})
	done := run(t, c, Scenario{Name: "connects", Seconds: 2, TLS: true, Rates: map[string]int{"connects": 20}}).Loads[0]
	if n := done.Count("started"); n == 0 || done.Count("connack") != n {
		t.Errorf("not every client got its CONNACK: %s", done.Done)
	}
	result, err := c.Traffic(t.Context(), 1, 1, 10_000_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range result.Nodes {
		if node.Received.Bytes != 20_000_000 {
			t.Errorf("%s received %+v", node.Name, node.Received)
		}
	}
}

// A load that starts its own nodes stops them also when it is interrupted.
func TestInterrupted(t *testing.T) {
	require(t)
	state := filepath.Join(t.TempDir(), "state")
	command := exec.Command("./run", "--state", state, "--build", build, "--scenario", "idle", "--duration", "60")
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(time.Minute, func() { command.Process.Kill() })
	defer kill.Stop()
	for lines := bufio.NewScanner(output); lines.Scan(); {
		if strings.Contains(lines.Text(), "window_start") {
			if err := command.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}
	}
	if err := command.Wait(); err == nil || command.ProcessState.ExitCode() != 128+int(syscall.SIGTERM) {
		t.Errorf("interrupted, it ended with %v", err)
	}
	nothingIsLeft(t, state)
}
