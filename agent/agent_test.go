package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/rs/zerolog"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// spinner is a process that never rests.
const spinner = `register(spinner, spawn(fun() -> (fun Loop(N) -> Loop(lists:sum([N, 1])) end)(0) end)), ok`

// running is an agent at work.
type running struct {
	agent   *Agent
	path    string // of its configuration
	output  string // of its sink
	http    string // more of the key http
	url     string
	address string // host:port
	log     *synchronized
	stop    func()
}

type synchronized struct {
	mutex  sync.Mutex
	buffer bytes.Buffer
}

func (s *synchronized) Write(p []byte) (int, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.buffer.Write(p)
}

func (s *synchronized) String() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.buffer.String()
}

// start starts an agent with windows of a second, that profiles only the VMs of a test.
func start(t *testing.T, nodes, more string) *running {
	t.Helper()
	return startHTTP(t, nodes, "", more)
}

func startHTTP(t *testing.T, nodes, http, more string) *running {
	t.Helper()
	testsupport.RequireBPF(t)
	dir := t.TempDir()
	r := &running{path: filepath.Join(dir, "agent.yaml"), output: filepath.Join(dir, "profiles"), http: http, log: &synchronized{}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	r.address, r.url = address, "http://"+address
	r.write(t, nodes, more)
	config, err := Load(r.path)
	if err != nil {
		t.Fatal(err)
	}
	if r.agent, err = New(config, Options{Version: "test", Log: zerolog.New(r.log)}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- r.agent.Run(ctx, func() { close(ready) }) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the agent ended with %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("the agent does not end")
		}
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
	t.Cleanup(r.stop)
	<-ready
	return r
}

func (r *running) write(t *testing.T, nodes, more string) {
	t.Helper()
	t.Helper()
	text := fmt.Sprintf("sampling: {frequency: 99, window: 1s, profile: 2s}\ntargets: {interval: 1s, nodes: [%q]}\nspool: %s\nhttp: {listen: %q, max_scrapes: 2%s}\n"+
		"sinks: [{name: local, type: directory, directory: {path: %s}}]\n%s", nodes, filepath.Join(filepath.Dir(r.path), "spool"), r.address, r.http, r.output, more)
	if err := os.WriteFile(r.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("not seen: %s", what)
}

func (r *running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	answer, err := http.Get(r.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// profiles returns the profiles of a node and kind that the sink has.
func (r *running) profiles(t *testing.T, node, kind string) []*profile.Profile {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(r.output, "[0-9]*-"+node+"-"+kind+"-*.pb.gz")) // not those being written
	var all []*profile.Profile
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := profile.ParseData(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, p)
	}
	return all
}

// ofSpinner returns which share of a profile is of the spinner.
func ofSpinner(p *profile.Profile) float64 {
	var all, of int64
	for _, s := range p.Sample {
		all += s.Value[1]
		if len(s.Label["process"]) > 0 && s.Label["process"][0] == "spinner" {
			of += s.Value[1]
		}
	}
	return float64(of) / float64(max(all, 1))
}

// TestAgent: two VMs are profiled at once, one is started again, all is scraped
// meanwhile, and the configuration is changed.
func TestAgent(t *testing.T) {
	testsupport.RequireBPF(t)
	cluster := testsupport.NewCluster(t)
	vm := func(name string) *testsupport.VM {
		return testsupport.StartVM(t, testsupport.Options{Name: name, Cluster: cluster, Flags: []string{"+S", "1", "+sbwt", "none"}, Eval: spinner})
	}
	one, two := vm("agent_one"), vm("agent_two")
	r := start(t, "agent_.*", "")
	for _, node := range []string{one.Node, two.Node} {
		eventually(t, "two profiles of "+node, func() bool { return len(r.profiles(t, node, "cpu")) >= 2 })
		all := r.profiles(t, node, "cpu")
		if share := ofSpinner(all[1]); share < 0.5 {
			t.Errorf("%.0f%% of %s is of its spinner", 100*share, node)
		}
		if gap := all[1].TimeNanos - all[0].TimeNanos - all[0].DurationNanos; gap < -1e6 || gap > 1e6 {
			t.Errorf("%v between the first two profiles of %s", time.Duration(gap), node)
		}
	}

	two.Stop(t)
	eventually(t, "the end of a VM", func() bool { return strings.Contains(r.log.String(), "has ended") })
	before := len(r.profiles(t, two.Node, "cpu"))
	two = vm("agent_two")
	eventually(t, "a VM that was started again", func() bool { return len(r.profiles(t, two.Node, "cpu")) > before+1 })

	t.Run("scrape", func(t *testing.T) { scrape(t, r, one, two) })
	t.Run("reload", func(t *testing.T) { reload(t, r) })
	r.stop()
	if n := strings.Count(r.log.String(), `"level":"error"`); n != 1 { // the configuration that was not taken
		t.Errorf("%d errors:\n%s", n, r.log.String())
	}
}

// TestNameThatComesLate: a VM that was found while it booted is profiled under the
// name that it has in the end.
func TestNameThatComesLate(t *testing.T) {
	testsupport.RequireBPF(t)
	before := relookAfter
	relookAfter = 0
	t.Cleanup(func() { relookAfter = before })
	vm := testsupport.StartVM(t, testsupport.Options{Flags: []string{"+S", "1", "+sbwt", "none"}, Eval: spinner})
	r := start(t, "nonode@nohost|late@.*", "")
	eventually(t, "a profile without a name", func() bool { return len(r.profiles(t, "nonode@nohost", "cpu"))+len(r.profiles(t, "beam", "cpu")) > 0 })
	vm.Eval(t, "{ok, _} = net_kernel:start('late@localhost', #{name_domain => shortnames, dist_listen => false})")
	eventually(t, "two profiles with its name", func() bool { return len(r.profiles(t, "late@localhost", "cpu")) > 1 })
	r.stop()
	if log := r.log.String(); strings.Count(log, "begun with anew") != 1 || strings.Contains(log, `"level":"warn"`) {
		t.Errorf("the log says\n%s", log)
	}
}

func scrape(t *testing.T, r *running, one, two *testsupport.VM) {
	code, body := r.get(t, "/debug/pprof/profile?seconds=2&node=agent_one")
	p, err := profile.ParseData([]byte(body))
	if code != http.StatusOK || err != nil {
		t.Fatalf("status %d, %v: %.100s", code, err, body)
	}
	if p.DurationNanos < 2e9 || p.DurationNanos > 4e9 || ofSpinner(p) < 0.5 || len(p.Sample[0].Label["node"]) > 0 {
		t.Errorf("%v, %.0f%% spinner, labels %v", time.Duration(p.DurationNanos), 100*ofSpinner(p), p.Sample[0].Label)
	}
	code, body = r.get(t, "/debug/pprof/profile?seconds=1")
	if p, err = profile.ParseData([]byte(body)); code != http.StatusOK || err != nil {
		t.Fatalf("status %d, %v: %.100s", code, err, body)
	}
	nodes := map[string]bool{}
	for _, s := range p.Sample {
		nodes[s.Label["node"][0]] = true
	}
	if !nodes[one.Node] || !nodes[two.Node] {
		t.Errorf("the profile of all VMs is of %v", nodes)
	}
	for path, want := range map[string]int{
		"/debug/pprof/profile?seconds=0": 400, "/debug/pprof/profile?seconds=301": 400, "/debug/pprof/profile?node=nobody": 404,
		"/debug/pprof/distribution?seconds=1": 404, "/healthz": 200, "/readyz": 200, "/": 200, "/nothing": 404,
	} {
		if code, body := r.get(t, path); code != want {
			t.Errorf("%s: %d, want %d: %s", path, code, want, body)
		}
	}
	// Two at once are answered, a third is not.
	var taking sync.WaitGroup
	var refused atomic.Bool
	defer taking.Wait()
	defer refused.Store(true)
	for range 2 {
		taking.Go(func() {
			for !refused.Load() {
				if code, _ := r.get(t, "/debug/pprof/profile?seconds=2"); code == http.StatusServiceUnavailable {
					refused.Store(true)
				}
			}
		})
	}
	eventually(t, "a scrape that is one too many", func() bool {
		if code, _ := r.get(t, "/debug/pprof/profile?seconds=1"); code == http.StatusServiceUnavailable {
			refused.Store(true)
		}
		return refused.Load()
	})
	taking.Wait()
	_, body = r.get(t, "/metrics")
	for _, want := range []string{
		`beamprof_cpu_seconds_total{node="agent_one@localhost",workload="`, `beamprof_state_cpu_seconds_total{node="agent_two@localhost",state="`,
		`beamprof_samples_lost_total{node="agent_one@localhost"} `, `beamprof_targets 2`, `beamprof_sink_sent_total{sink="local",type="directory"} `,
		`beamprof_verdict{cause="`, "process_resident_memory_bytes ",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	goTool(t, r)
}

// goTool has `go tool pprof` pull a profile.
func goTool(t *testing.T, r *running) {
	output := filepath.Join(t.TempDir(), "pulled.pb.gz")
	command := exec.Command("go", "tool", "pprof", "-proto", "-output", output, r.url+"/debug/pprof/profile?seconds=1")
	command.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("go tool pprof: %v\n%s", err, out)
	}
	data, err := os.ReadFile(output)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := profile.ParseData(data); err != nil || ofSpinner(p) < 0.5 {
		t.Errorf("pulled: %v", err)
	}
}

func reload(t *testing.T, r *running) {
	r.write(t, "agent_.*", "bogus: 1\n")
	r.agent.reloadFrom(r.path)
	if log := r.log.String(); !strings.Contains(log, ":6: unknown key bogus") {
		t.Fatalf("a configuration with an unknown key was taken:\n%s", log)
	}
	r.output += "2"
	r.write(t, "agent_one@.*", "")
	r.agent.reloadFrom(r.path)
	reloaded := time.Now() // all sampling of before has ended
	eventually(t, "a profile where the new configuration wants it", func() bool {
		return slices.ContainsFunc(r.profiles(t, "agent_one@localhost", "cpu"), func(p *profile.Profile) bool {
			return time.Unix(0, p.TimeNanos).After(reloaded)
		})
	})
	for _, p := range r.profiles(t, "agent_two@localhost", "cpu") { // what was sampled before may come
		if end := time.Unix(0, p.TimeNanos+p.DurationNanos); end.After(reloaded) {
			t.Errorf("a profile until %s of a VM that was not selected any more at %s", end, reloaded)
		}
	}
	// The sampling of a VM that is selected begins beside the reload.
	eventually(t, "metrics that show the reloads", func() bool {
		_, body := r.get(t, "/metrics")
		return strings.Contains(body, `beamprof_config_reloads_total{result="ok"} 1`) &&
			strings.Contains(body, `beamprof_config_reloads_total{result="failed"} 1`) && strings.Contains(body, "beamprof_targets 1\n")
	})
}
