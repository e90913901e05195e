package distribution

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// trafficSource sends known messages from code of its own.
const trafficSource = `
-module(traffic).
-behaviour(gen_server).
-export([start/0, init/1, handle_call/3, handle_cast/2, handle_info/2, calls/3, casts/3, relays/2, remote/2, sends/3, wait/1]).

start() -> {ok, Pid} = gen_server:start({local, traffic_server}, ?MODULE, [], []), unlink(Pid), Pid.
init([]) -> {ok, 0}.
handle_call(seen, _From, N) -> {reply, N, N};
handle_call({relay, Node}, _From, N) -> ok = gen_server:cast({traffic_server, Node}, {relayed, N}), {reply, ok, N};
handle_call(_Request, _From, N) -> {reply, ok, N + 1}.
handle_cast(_Request, N) -> {noreply, N + 1}.
handle_info(_, N) -> {noreply, N + 1}.

calls(_, 0, _) -> ok;
calls(Node, N, Bytes) ->
    ok = gen_server:call({traffic_server, Node}, {apply, vmq_swc_store, rpc_sync_missing, [binary:copy(<<N:8>>, Bytes)]}, infinity),
    calls(Node, N - 1, Bytes).

casts(_, 0, _) -> ok;
casts(Node, N, Bytes) ->
    gen_server:cast({traffic_server, Node}, {apply, vmq_swc_store, rpc_broadcast, [binary:copy(<<N:8>>, Bytes)]}),
    casts(Node, N - 1, Bytes).

remote(At, To) -> spawn(At, fun() -> gen_server:cast(To, from_afar) end).

relays(_, 0) -> ok;
relays(Node, N) -> ok = gen_server:call(traffic_server, {relay, Node}), relays(Node, N - 1).

sends(_, 0, _) -> ok;
sends(To, N, Message) -> To ! Message, sends(To, N - 1, Message).

wait(Node) -> {ok, _} = erpc:call(Node, file, get_cwd, []), gen_server:call({traffic_server, Node}, seen).
`

// session is a session that runs beside the test.
type session struct {
	*Session
	messages []Message
	senders  []string // by message: stacks, leaf first
	kinds    []string // and kinds of processes
	stop     context.CancelFunc
	done     chan error
}

func run(t *testing.T, p pair, options Options) *session {
	t.Helper()
	s, err := Open(p.target, options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &session{Session: s, stop: stop, done: make(chan error, 1)}
	go func() {
		r.done <- s.Run(ctx, func(m *Message) {
			r.messages = append(r.messages, *m)
			r.senders = append(r.senders, stackOf(m.Sender))
			r.kinds = append(r.kinds, kindOf(m.Sender))
		})
		close(r.done)
	}()
	t.Cleanup(func() {
		stop()
		for range r.done { // until Run has returned
		}
		s.Close()
	})
	// The probes are in when they see what goes by.
	for deadline := time.Now().Add(20 * time.Second); options.Detail != Totals; time.Sleep(50 * time.Millisecond) {
		p.a.Eval(t, fmt.Sprintf("{probing_begins, '%s'} ! x", p.b.Node))
		if traffic, err := s.probes.programs.Traffic(); err == nil && len(traffic) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no probe was hit")
		}
	}
	return r
}

func kindOf(s *collector.Sample) string {
	if s == nil || s.Process == nil {
		return ""
	}
	return s.Process.Kind
}

func stackOf(s *collector.Sample) string {
	if s == nil {
		return ""
	}
	var names []string
	for _, f := range s.Stack {
		names = append(names, f.Function)
	}
	return strings.Join(names, ";")
}

// end stops the session and returns its messages.
func (r *session) end(t *testing.T) []Message {
	t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		t.Fatal(err)
	}
	return r.messages
}

// group is what is counted together.
type group struct {
	received                                     bool
	operation, destination, requestType, request string
}

func groups(messages []Message) map[group]*[2]float64 {
	all := map[group]*[2]float64{}
	for _, m := range messages {
		g := group{m.Received, m.Operation, m.Destination, m.RequestType, m.Request}
		if all[g] == nil {
			all[g] = &[2]float64{}
		}
		all[g][0] += m.Weight
		all[g][1] += float64(m.Bytes) * m.Weight
	}
	return all
}

func startTraffic(t testing.TB, options testsupport.Options) pair {
	options.Modules = map[string]string{"traffic": trafficSource}
	p := startPair(t, options)
	p.a.Eval(t, "traffic:start()")
	p.b.Eval(t, "traffic:start()")
	return p
}

// Every message is counted, with its bytes, its destination and its request,
// whether the connection is new or older than the probes.
func TestMessages(t *testing.T) {
	testsupport.RequireBPF(t)
	for _, test := range []struct {
		name       string
		flags      []string
		plain, new bool
	}{
		{"plain", nil, true, false}, {"plain, new connection", nil, true, true},
		{"TLS", tlsFlags(t), false, false}, {"TLS, new connection", tlsFlags(t), false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := startTraffic(t, testsupport.Options{Flags: test.flags})
			exchange := func() {
				p.a.Eval(t, "traffic:calls('bpdist_b@localhost', 300, 10), traffic:casts('bpdist_b@localhost', 500, 1000), traffic:casts('bpdist_b@localhost', 3, 10000000), traffic:wait('bpdist_b@localhost')")
				p.b.Eval(t, "traffic:calls('bpdist_a@localhost', 400, 10), traffic:casts('bpdist_a@localhost', 600, 1000), traffic:casts('bpdist_a@localhost', 2, 10000000), traffic:wait('bpdist_a@localhost')")
			}
			if !test.new {
				p.connect(t)
				exchange() // so that all atoms are in the cache
			}
			s := run(t, p, Options{Detail: Full})
			exchange()
			messages := s.end(t)
			got := groups(messages)
			for want, expected := range map[group][2]float64{
				{false, "reg_send", "traffic_server", "call", "apply vmq_swc_store:rpc_sync_missing"}: {300, 300 * 130},
				{false, "reg_send", "traffic_server", "cast", "apply vmq_swc_store:rpc_broadcast"}:    {503, 500*1090 + 3*10_000_000},
				{true, "reg_send", "traffic_server", "call", "apply vmq_swc_store:rpc_sync_missing"}:  {400, 400 * 130},
				{true, "reg_send", "traffic_server", "cast", "apply vmq_swc_store:rpc_broadcast"}:     {602, 600*1090 + 2*10_000_000},
				// Replies are named by what was asked.
				{true, "alias_send", "beamprof_evaluator", "reply", "apply vmq_swc_store:rpc_sync_missing"}: {300, 300 * 86},
				{false, "alias_send", OtherProcess, "reply", "apply vmq_swc_store:rpc_sync_missing"}:        {400, 400 * 86},
			} {
				g := got[want]
				if g == nil || g[0] != expected[0] {
					t.Errorf("%+v: %v, not %v", want, g, expected)
					continue
				}
				t.Logf("%+v: %g messages, %g bytes", want, g[0], g[1])
				if math.Abs(g[1]/expected[1]-1) > 0.2 {
					t.Errorf("%+v: %g bytes, about %g expected", want, g[1], expected[1])
				}
			}
			stats := s.Stats()
			if stats.Lost+stats.Uncounted+stats.Malformed > 0 || stats.NoMessages != nil {
				t.Errorf("%+v", stats)
			}
			totals, err := s.Totals()
			if err != nil || len(totals) != 1 {
				t.Fatalf("%+v, %v", totals, err)
			}
			t.Logf("%+v", totals[0])
			checkSums(t, totals[0], messages, test.plain)
			checkSenders(t, s)
			unnamed := 0
			for _, m := range messages {
				if m.Operation == Unknown || m.Destination == Unknown || m.Node != p.b.Node {
					unnamed++
					t.Logf("%+v", m)
				}
			}
			if unnamed*1000 > len(messages) {
				t.Errorf("%d of %d messages have no name", unnamed, len(messages))
			}
		})
	}
}

// The result of what is called on another node comes as the reason that a process
// exits with. It is named by what was called, whatever became of it.
func TestResultsOfCalls(t *testing.T) {
	testsupport.RequireBPF(t)
	p := startTraffic(t, testsupport.Options{})
	p.connect(t)
	s := run(t, p, Options{Detail: Full})
	const calls = `[erpc:call('%[1]s', lists, seq, [1, 5]) || _ <- lists:seq(1, %[2]d)], [{badrpc, _} = rpc:call('%[1]s', erlang, hd, [[]]) || _ <- lists:seq(1, %[2]d)], traffic:wait('%[1]s')`
	p.a.Eval(t, fmt.Sprintf(calls, p.b.Node, 50))
	p.b.Eval(t, fmt.Sprintf(calls, p.a.Node, 70))
	got := groups(s.end(t))
	for want, n := range map[group]float64{
		{true, "payload_monitor_p_exit", "beamprof_evaluator", "reply", "apply lists:seq"}: 50,
		{true, "payload_monitor_p_exit", "beamprof_evaluator", "reply", "apply erlang:hd"}: 50,
		{false, "payload_monitor_p_exit", OtherProcess, "reply", "apply lists:seq"}:        70,
		{false, "payload_monitor_p_exit", OtherProcess, "reply", "apply erlang:hd"}:        70,
	} {
		if g := got[want]; g == nil || g[0] != n {
			t.Errorf("%+v: %v, not %g", want, g, n)
		}
	}
	if t.Failed() {
		for g, n := range got {
			t.Logf("%+v: %v", g, *n)
		}
	}
}

// checkSums compares the sums of the messages with the totals.
func checkSums(t *testing.T, total Total, messages []Message, plain bool) {
	t.Helper()
	var count, bytes [2]uint64
	for _, m := range messages {
		direction := 0
		if m.Received {
			direction = 1
		}
		count[direction]++
		bytes[direction] += m.Bytes
	}
	if count != [2]uint64{total.SentMessages, total.ReceivedMessages} {
		t.Errorf("%v messages in detail, %+v", count, total)
	}
	for direction, kernel := range []uint64{total.SentBytes, total.ReceivedBytes} {
		difference := float64(bytes[direction])/float64(kernel) - 1
		t.Logf("%d bytes in messages, the kernel counted %d (%+.3f %%)", bytes[direction], kernel, 100*difference)
		if plain && (difference > 0.01 || difference < -0.01) {
			t.Errorf("%d bytes in messages, the kernel counted %d", bytes[direction], kernel)
		}
	}
}

// checkSenders looks for the code that sends, and who runs it.
func checkSenders(t *testing.T, s *session) {
	t.Helper()
	wrong := map[string]int{}
	for i, m := range s.messages {
		if m.Received || m.Operation != "reg_send" || m.RequestType != "call" && m.RequestType != "cast" || m.Destination != "traffic_server" || m.Request == "seen" {
			continue
		}
		if m.Sender == nil || m.Sender.Process == nil && m.Sender.Partial || !strings.Contains(s.senders[i], "traffic:c") {
			wrong[s.senders[i]]++
		}
	}
	if len(wrong) > 0 {
		t.Errorf("stacks of senders: %v", wrong)
	}
}

// Who sends says what it sends for: the request that it handles, and who asked.
func TestRequestOfSender(t *testing.T) {
	testsupport.RequireBPF(t)
	p := startTraffic(t, testsupport.Options{})
	p.connect(t)
	s, err := Open(p.target, Options{Detail: Full})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	got := map[string]int{}
	seen := make(chan struct{}, 1)
	go func() {
		done <- s.Run(ctx, func(m *Message) {
			if m.Received || m.Request != "relayed" {
				return
			}
			who := "nobody"
			if len(m.Sender.Callers) > 0 {
				who = m.Sender.Callers[0].Process.Name
			}
			got[fmt.Sprintf("%s %s for %s: %s", m.Sender.RequestType, m.Sender.Request, who, m.Sender.Process.Name)]++
			select {
			case seen <- struct{}{}:
			default:
			}
		})
	}()
	for found := false; !found && t.Context().Err() == nil; {
		p.a.Eval(t, "[ok = gen_server:call(traffic_server, {relay, 'bpdist_b@localhost'}) || _ <- lists:seq(1, 10)]")
		select {
		case <-seen:
			found = true
		case err := <-done:
			t.Fatal(err)
		case <-time.After(300 * time.Millisecond):
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if want := "call relay for beamprof_evaluator: traffic_server"; len(got) != 1 || got[want] < 1 {
		t.Errorf("%v, not %q", got, want)
	}
}

// Above a rate messages are looked into for a part of the time. What is counted
// for each node stays what the VM counts, and what is looked into stands for the
// rest, with the budget kept.
func TestSampled(t *testing.T) {
	testsupport.RequireBPF(t)
	p := startTraffic(t, testsupport.Options{})
	p.connect(t)
	const rounds, each = 40, 20_000
	for _, detail := range []Detail{Sampled, Full} {
		s := run(t, p, Options{Detail: detail})
		start := time.Now()
		for range rounds {
			p.a.Eval(t, fmt.Sprintf("traffic:sends({traffic_server, 'bpdist_b@localhost'}, %d, {'$gen_cast', {write, key, 1}}), traffic:casts('bpdist_b@localhost', %d, 10), traffic:wait('bpdist_b@localhost')", each*3/4, each/4))
		}
		messages := s.end(t)
		seconds := time.Since(start).Seconds()
		totals, err := s.Totals()
		if err != nil || len(totals) != 1 {
			t.Fatalf("%+v, %v", totals, err)
		}
		stats := s.Stats()
		if sent := float64(totals[0].SentMessages) / (rounds * each); sent < 0.99 || sent > 1.02 {
			t.Errorf("%d messages sent, %d counted", rounds*each, totals[0].SentMessages)
		}
		var writes, casts float64
		for g, sum := range groups(messages) {
			switch {
			case g.received:
			case g.requestType == "cast" && g.request == "write":
				writes += sum[0]
			case g.requestType == "cast" && g.request == "apply vmq_swc_store:rpc_broadcast":
				casts += sum[0]
			}
		}
		t.Logf("%+v in %.1f s; %d counted, stands for %.0f and %.0f of %d", stats, seconds, totals[0].SentMessages, writes, casts, rounds*each)
		if stats.Every < 2 || stats.Uncounted > 0 || stats.Detail != Sampled || stats.Reduced != (detail == Full) {
			t.Errorf("%d messages looked into: %+v", len(messages), stats)
		}
		// A slice that was longer than it should be is made up for by the next
		// rest, which may be still to come.
		if detail == Sampled && time.Duration(len(messages))*probeCost > time.Duration(2*sampledShare*(seconds+2)*float64(time.Second)) {
			t.Errorf("%d messages looked into in %.1f s", len(messages), seconds)
		}
		if all := (writes + casts) / (rounds * each); all < 0.95 || all > 1.05 {
			t.Errorf("what was looked into stands for %.0f messages of %d", writes+casts, rounds*each)
		}
	}
}

// What another node spawns here is named by whose fun it runs, also if all that
// its stack tells is that it sends.
func TestSpawnedByAnotherNode(t *testing.T) {
	testsupport.RequireBPF(t)
	p := startTraffic(t, testsupport.Options{})
	p.connect(t)
	s := run(t, p, Options{Detail: Full})
	const n = 20
	p.b.Eval(t, fmt.Sprintf("[traffic:remote('%s', whereis(traffic_server)) || _ <- lists:seq(1, %d)], timer:sleep(500)", p.a.Node, n))
	got := map[string]int{}
	for i, m := range s.end(t) {
		if m.Request == "from_afar" && !m.Received {
			got[s.kinds[i]]++
		}
	}
	if got["traffic:fun"] != n {
		t.Errorf("%v", got)
	}
}
