package sampler_test

import (
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beamprof/beamprof/internal/testsupport"
)

//go:embed testdata/shares.erl
var sharesSource string

// shareTolerance is how far a share of a server's time may be from the truth.
const shareTolerance = 0.02

// served is the time in seconds that servers worked for clients, by either.
type served map[string]map[string]float64

func (s served) add(server, client string, seconds float64) {
	if s[server] == nil {
		s[server] = map[string]float64{}
	}
	s[server][client] += seconds
}

// share returns which part of a server's time was for a client.
func (s served) share(server, client string) float64 {
	total := 0.0
	for _, seconds := range s[server] {
		total += seconds
	}
	return s[server][client] / total
}

// traced returns what tracing says.
func traced(t *testing.T, vm *testsupport.VM) served {
	t.Helper()
	truth := served{}
	for line := range strings.Lines(string(vm.EvalBytes(t, "shares:truth()"))) {
		var server, client string
		var microseconds float64
		if _, err := fmt.Sscan(line, &server, &client, &microseconds); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		truth.add(server, client+"_client_N", microseconds/1e6)
	}
	return truth
}

func startShares(t *testing.T, servers ...string) *testsupport.VM {
	t.Helper()
	return testsupport.StartVM(t, testsupport.Options{
		Flags:   []string{"+S", "1", "+sbwt", "none"},
		Modules: map[string]string{"shares": sharesSource},
		Eval:    "shares:start([" + strings.Join(servers, ",") + "])",
	})
}

// TestTwoCallers loads one server by two callers 80 to 20: samples split its time
// between them as tracing does in the same run.
func TestTwoCallers(t *testing.T) {
	testsupport.RequireBPF(t)
	vm := startShares(t, "shared_server")
	before := traced(t, vm)
	samples, stats := profile(t, vm, 3999, 5*time.Second)
	truth := traced(t, vm)
	subtract(truth, before)
	ours, inside, right := served{}, 0, 0
	for _, s := range samples {
		if s.Process == nil || s.Process.Name != "shared_server" {
			continue
		}
		if s.OnBehalfOf != "" {
			ours.add("shared_server", s.OnBehalfOf, 1/float64(stats.Frequency))
		}
		if slices.Contains(s.erlang(), "shares:handle_call/3") {
			inside++
			if s.Request == "serve" {
				right++
			}
		}
	}
	if inside < 500 || float64(right) < 0.99*float64(inside) {
		t.Errorf("%d of %d samples in the callback have its request", right, inside)
	}
	compareShares(t, ours, truth, []string{"shared_server"})
}

// TestChainOfServers loads a chain of three servers by two callers of the first:
// every sample says who asked, and the chain of those who wait up to the client,
// by which the time of each server is split as tracing does.
func TestChainOfServers(t *testing.T) {
	testsupport.RequireBPF(t)
	servers := []string{"server_a", "server_b", "server_c"}
	vm := startShares(t, servers...)
	before := traced(t, vm)
	samples, stats := profile(t, vm, 3999, 6*time.Second)
	truth := traced(t, vm)
	subtract(truth, before)
	ours, inside, right, wrong := served{}, 0, 0, map[string]int{}
	for _, s := range samples {
		if s.Process == nil || !slices.Contains(servers, s.Process.Name) {
			continue
		}
		at := slices.Index(servers, s.Process.Name)
		var chain []string
		for _, c := range s.Callers {
			chain = append(chain, c.Process.Kind)
		}
		if len(chain) > 0 {
			ours.add(s.Process.Name, chain[len(chain)-1], 1/float64(stats.Frequency))
		}
		if !slices.Contains(s.erlang(), "shares:handle_call/3") {
			continue
		}
		inside++
		var want []string
		for i := at - 1; i >= 0; i-- {
			want = append(want, servers[i])
		}
		if len(chain) == at+1 && slices.Equal(chain[:at], want) && strings.HasSuffix(chain[at], "_client_N") && s.OnBehalfOf == chain[0] && s.Request == "serve" {
			right++
			continue
		}
		wrong[fmt.Sprintf("%s: request %q of %q in %q", s.Process.Name, s.Request, chain, s.erlang()[0])]++
	}
	if inside < 1000 || float64(right) < 0.99*float64(inside) {
		t.Errorf("%d of %d samples in callbacks tell the chain of callers", right, inside)
	}
	t.Logf("%d of %d samples in callbacks tell the chain of callers", right, inside)
	logMost(t, wrong, 5)
	compareShares(t, ours, truth, servers)
}

func subtract(from, what served) {
	for server, clients := range what {
		for client, seconds := range clients {
			from.add(server, client, -seconds)
		}
	}
}

func compareShares(t *testing.T, ours, truth served, servers []string) {
	t.Helper()
	for _, server := range servers {
		for _, client := range []string{"heavy_client_N", "light_client_N"} {
			x, y := ours.share(server, client), truth.share(server, client)
			t.Logf("%s for %s: sampled %.1f%%, traced %.1f%%", server, client, 100*x, 100*y)
			if !(math.Abs(x-y) <= shareTolerance) {
				t.Errorf("%s for %s: %.1f%% of the samples, %.1f%% by tracing: %v, %v", server, client, 100*x, 100*y, ours[server], truth[server])
			}
		}
		for client := range ours[server] {
			if truth[server][client] == 0 {
				t.Errorf("%s is said to work for %s: %v", server, client, ours[server])
			}
		}
	}
}
