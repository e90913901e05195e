package sampler_test

import (
	"slices"
	"testing"
	"time"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// TestWhoAskedWithFramePointers is TestWhoAsked in a VM whose JIT code keeps
// frame pointers, which stand between the Y registers of two frames.
func TestWhoAskedWithFramePointers(t *testing.T) {
	testsupport.RequireBPF(t)
	for _, behaviour := range []string{"server", "state_functions", "event", "fsm"} {
		t.Run(behaviour, func(t *testing.T) { testBehaviour(t, behaviour, "+JPperf", "true") })
	}
}

// TestRemoteCaller calls a server from another node: who asked there cannot be
// read in this VM's memory, so every such call has the same value.
func TestRemoteCaller(t *testing.T) {
	testsupport.RequireBPF(t)
	cluster := testsupport.NewCluster(t)
	vm := testsupport.StartVM(t, testsupport.Options{
		Flags:   []string{"+S", "1", "+sbwt", "none"},
		Modules: askedModules(t),
		Name:    "asked_server",
		Cluster: cluster,
		Eval:    "{ok, S} = asked_server:start(server), register(asked_for, S)",
	})
	testsupport.StartVM(t, testsupport.Options{
		Flags:   []string{"+S", "1", "+sbwt", "none"},
		Modules: askedModules(t),
		Name:    "asked_caller",
		Cluster: cluster,
		Eval:    "spawn(asked, remote, [{asked_for, '" + vm.Node + "'}])",
	})
	time.Sleep(500 * time.Millisecond)
	samples, _ := profile(t, vm, 1999, 2*time.Second)
	checkAsked(t, samples, vm.Eval(t, "S"), map[string]string{"remote": "process of another node"})
}

// TestElixirNames asks a server that is named as Elixir's are: functions,
// processes, requests and callers are shown as Elixir writes them.
func TestElixirNames(t *testing.T) {
	testsupport.RequireBPF(t)
	vm := testsupport.StartVM(t, testsupport.Options{
		Flags: []string{"+S", "1", "+sbwt", "none"},
		Modules: map[string]string{
			"Elixir.Asked.Server": `
-module('Elixir.Asked.Server').
-behaviour(gen_server).
-export([start/0, client/1, init/1, handle_call/3, handle_cast/2]).
start() ->
    {ok, S} = gen_server:start(?MODULE, [], []),
    spawn(fun() -> register('Elixir.Asked.Client', self()), ?MODULE:client(S) end),
    S.
client(S) -> gen_server:call(S, {'Elixir.Asked.Request', self()}), client(S).
init([]) -> {ok, []}.
handle_call({'Elixir.Asked.Request', _}, _, S) -> N = 'work!'(1000), {reply, N, S}.
handle_cast(_, S) -> {noreply, S}.
'work!'(0) -> 0;
'work!'(N) -> N + 'work!'(N - 1) + erlang:crc32(integer_to_binary(N)).
`},
		Eval: "S = 'Elixir.Asked.Server':start()",
	})
	server := vm.Eval(t, "S")
	time.Sleep(200 * time.Millisecond)
	samples, _ := profile(t, vm, 1999, time.Second)
	inside, right := 0, 0
	for _, s := range samples {
		if s.Process == nil || s.Process.PID != server || !slices.Contains(s.erlang(), "Asked.Server.work!/1") {
			continue
		}
		inside++
		if s.Process.Name == "Asked.Server.init/1" && s.Request == "Asked.Request" && s.OnBehalfOf == "Asked.Client" &&
			slices.Contains(s.erlang(), "Asked.Server.handle_call/3") {
			right++
		} else if right == inside-1 {
			t.Logf("%+v in %+v for %q: %q", s.Request, s.Process, s.OnBehalfOf, s.names())
		}
	}
	if inside < 200 || float64(right) < 0.99*float64(inside) {
		t.Errorf("%d of %d samples in the callback are named as Elixir does", right, inside)
	}
}
