package distribution

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/sockets"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// pair is two nodes of a cluster, the first of which is looked at.
type pair struct {
	a, b   *testsupport.VM
	target *beam.Target
}

func startPair(t testing.TB, options testsupport.Options) pair {
	t.Helper()
	testsupport.RequireRoot(t)
	options.Cluster = testsupport.NewCluster(t)
	options.Name = "bpdist_a"
	a := testsupport.StartVM(t, options)
	options.Name = "bpdist_b"
	b := testsupport.StartVM(t, options)
	target, err := beam.Attach(a.PID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	return pair{a, b, target}
}

func (p pair) connect(t testing.TB) {
	p.a.Eval(t, fmt.Sprintf("true = net_kernel:connect_node('%s')", p.b.Node))
}

func follow(t *testing.T, target *beam.Target) *connections {
	t.Helper()
	kernel, err := sockets.Open(target.PID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kernel.Close() })
	if err := kernel.Subscribe(); err != nil {
		t.Fatal(err)
	}
	c := newConnections(target, kernel)
	if err := c.begin(); err != nil {
		t.Fatal(err)
	}
	return c
}

// octets returns what the VM counted on the socket that carried most.
func (p pair) octets(t *testing.T) (sent, received int64) {
	option := func(name string) int64 {
		return p.a.EvalInt(t, fmt.Sprintf("lists:max([element(2, hd(element(2, inet:getstat(P, [%s])))) || P <- erlang:ports(), {name, \"tcp_inet\"} =:= erlang:port_info(P, name)])", name))
	}
	return option("send_oct"), option("recv_oct")
}

// The kernel's count of the bytes is that of the VM, and of ss.
func TestTotals(t *testing.T) {
	p := startPair(t, testsupport.Options{})
	p.connect(t)
	c := follow(t, p.target)
	sentBefore, receivedBefore := p.octets(t)
	p.a.Eval(t, "[{x, 'bpdist_b@localhost'} ! binary:copy(<<1>>, 1000 + N rem 7) || N <- lists:seq(1, 3000)], {ok, _} = erpc:call('bpdist_b@localhost', file, get_cwd, [])")
	p.b.Eval(t, "[{x, 'bpdist_a@localhost'} ! binary:copy(<<1>>, 10000) || _ <- lists:seq(1, 200)], {ok, _} = erpc:call('bpdist_a@localhost', file, get_cwd, [])")
	sentAfter, receivedAfter := p.octets(t)
	c.end()
	totals := c.totals()
	if len(totals) != 1 || totals[0].Node != p.b.Node || totals[0].Connections != 1 || totals[0].Unknown != 0 {
		t.Fatalf("%+v", totals)
	}
	check := func(what string, got uint64, want int64) {
		t.Logf("%s: %d bytes, the VM counted %d", what, got, want)
		if difference := int64(got) - want; difference*difference > want/100*want/100 {
			t.Errorf("%s: %d bytes, the VM counted %d", what, got, want)
		}
	}
	check("sent", totals[0].SentBytes, sentAfter-sentBefore)
	check("received", totals[0].ReceivedBytes, receivedAfter-receivedBefore)
	if totals[0].SentPackets < 3001 || totals[0].ReceivedPackets < 200 {
		t.Errorf("packets: %+v", totals[0])
	}
	checkAgainstSS(t, c)
	p.checkPorts(t, c)
}

// checkPorts compares where other nodes connect with what the VM told epmd.
func (p pair) checkPorts(t *testing.T, c *connections) {
	t.Helper()
	want := p.a.EvalInt(t, `begin {port, Port, _} = erl_epmd:port_please("bpdist_a", "localhost"), Port end`)
	if len(c.ports) != 1 || !c.ports[uint16(want)] {
		t.Errorf("other nodes connect to %v, not %d", c.ports, want)
	}
}

// checkAgainstSS compares with what ss says of the same socket.
func checkAgainstSS(t *testing.T, c *connections) {
	ss, err := exec.LookPath("ss")
	if err != nil {
		t.Log("no ss to compare with")
		return
	}
	one := c.known[c.order[0]]
	out, err := exec.Command(ss, "-tinH", fmt.Sprintf("sport = :%d and dport = :%d", one.socket.ID.LocalPort(), one.socket.ID.RemotePort())).Output()
	if err != nil {
		t.Fatal(err)
	}
	said := func(name string) (value uint64, ok bool) {
		match := regexp.MustCompile(name + `:(\d+)`).FindStringSubmatch(string(out))
		if match == nil {
			return 0, false
		}
		value, _ = strconv.ParseUint(match[1], 10, 64)
		return value, true
	}
	again, _ := said("bytes_retrans") // 0 is not shown
	for name, got := range map[string]uint64{"bytes_sent": one.socket.Sent, "bytes_received": one.socket.Received} {
		want, ok := said(name)
		if !ok {
			t.Fatalf("ss says %s", strings.TrimSpace(string(out)))
		}
		if name == "bytes_sent" { // ss counts what was sent twice twice
			want -= again
		}
		t.Logf("%s: %d, ss says %d", name, got, want)
		if got > want || want-got > want/1000+200 {
			t.Errorf("%s: %d, ss says %d", name, got, want)
		}
	}
}

// Connections that come and go are counted, even those the VM's list never
// showed when it was looked at.
func TestTotalsOfShortConnections(t *testing.T) {
	p := startPair(t, testsupport.Options{})
	c := follow(t, p.target)
	send := func() {
		p.connect(t)
		p.a.Eval(t, "{x, 'bpdist_b@localhost'} ! binary:copy(<<1>>, 100000), {ok, _} = erpc:call('bpdist_b@localhost', file, get_cwd, [])")
	}
	end := func() { p.a.Eval(t, "true = erlang:disconnect_node('bpdist_b@localhost')") }
	send()
	if err := c.follow(false); err != nil {
		t.Fatal(err)
	}
	end()
	for range 2 {
		send()
		end()
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		if err := c.hear(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		totals := c.totals()
		if len(totals) == 1 && totals[0].SentBytes > 300_000 && totals[0].ReceivedBytes > 600 {
			if totals[0].Node != p.b.Node || totals[0].Connections != 2 || totals[0].SentBytes > 310_000 {
				t.Errorf("%+v", totals)
			}
			t.Logf("%+v", totals)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", totals)
		}
	}
}
