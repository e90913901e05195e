package beam

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// zooSource starts processes of every kind. Each is told by what the VM says
// of it: zoo:list/0 returns one line per process of the whole VM.
const zooSource = `
-module(zoo).
-behaviour(gen_server).
-export([start/1, list/0, plain/1, plain/3, init/1, handle_call/3, handle_cast/2, enter/2, root/0]).

start(N) ->
    spawn(fun() ->
        [ok = one(K, K rem 10) || K <- lists:seq(1, N)],
        register(zoo_keeper, self()),
        receive stop -> ok end
    end),
    wait().

wait() ->
    case whereis(zoo_keeper) of
        undefined -> timer:sleep(5), wait();
        _ -> ok
    end.

%% Each kind of process, some with names that need care.
one(_, 0) -> spawn(?MODULE, plain, [x]), ok;
one(_, 1) -> spawn(?MODULE, plain, [1, 2, 3]), ok;
one(K, 2) -> spawn(fun() -> put(k, K), receive stop -> ok end end), ok;
one(K, 3) -> register(name("zoo_reg_" ++ integer_to_list(K)), spawn(fun root/0)), ok;
one(K, 4) -> {ok, _} = gen_server:start({local, name("zoo_server" ++ integer_to_list(K))}, ?MODULE, [], []), ok;
one(_, 5) -> {ok, _} = gen_server:start(?MODULE, [], []), ok;
one(_, 6) -> {ok, _} = proc_lib:start(?MODULE, enter, [self(), x]), ok;
one(K, 7) -> proc_lib:spawn(fun() -> put({a, K}, K), receive stop -> ok end end), ok;
one(K, 8) ->
    %% A dictionary of many keys, in which the initial call must be found.
    P = spawn(fun() ->
        [put({key, I}, I) || I <- lists:seq(1, K)],
        [put(list_to_atom("zoo_key" ++ integer_to_list(I)), I) || I <- lists:seq(1, 300)],
        proc_lib:init_p(self(), [], ?MODULE, plain, [x])
    end),
    true = is_pid(P), ok;
one(K, 9) ->
    {ok, _} = gen_server:start({local, name("z\x{f6}\x{f6} '" ++ integer_to_list(K) ++ "' \x{4e2d}")}, ?MODULE, big, []), ok.

name(Text) -> list_to_atom(Text).

plain(_) -> receive stop -> ok end.
plain(_, _, _) -> root().
root() -> receive stop -> ok end.

init(big) -> [put({k, I}, I) || I <- lists:seq(1, 100)], {ok, lists:seq(1, 1000)};
init([]) -> {ok, state}.
handle_call(_, _, S) -> {reply, ok, S}.
handle_cast(_, S) -> {noreply, S}.

enter(Parent, _) -> proc_lib:init_ack(Parent, {ok, self()}), receive stop -> ok end.

list() ->
    iolist_to_binary([line(P) || P <- processes(), P =/= self()]).

line(P) ->
    case process_info(P, [registered_name, initial_call, dictionary]) of
        undefined -> [];
        [{_, Name}, {_, Call}, {_, Dictionary}] ->
            {M, F, A} = case Call of
                {proc_lib, init_p, _} -> proc_lib:translate_initial_call([{dictionary, Dictionary}]);
                _ -> Call
            end,
            Text = case Name of [] -> ""; _ -> atom_to_list(Name) end,
            unicode:characters_to_binary(
                [pid_to_list(P), $\t, Text, $\t, io_lib:format("~tp:~tp/~p", [M, F, A]), $\n])
    end.
`

// listed is what the VM says of a process.
type listed struct{ pid, name, call string }

func oracle(t *testing.T, vm *testsupport.VM, module string) []listed {
	t.Helper()
	var all []listed
	for line := range strings.Lines(string(vm.EvalBytes(t, module+":list()"))) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != 3 {
			t.Fatalf("line %q", line)
		}
		all = append(all, listed{fields[0], fields[1], fields[2]})
	}
	return all
}

func TestIdentityEqualsProcessInfo(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{Modules: map[string]string{"zoo": zooSource}})
	vm.Eval(t, "zoo:start(1000)")
	target := attachTo(t, vm)
	known := map[string]listed{}
	for _, l := range oracle(t, vm, "zoo") {
		known[l.pid] = l
	}
	compared := 0
	for _, p := range allProcesses(t, target) {
		got := identify(t, target, p.addr, "")
		want, ok := known[got.PID]
		if !ok {
			continue // the process that evaluates, or one of the VM's own
		}
		delete(known, got.PID)
		compared++
		name := want.name
		if name == "" {
			name = want.call
		}
		if got.RegisteredName != want.name || got.InitialCall != want.call || got.Name != name {
			t.Errorf("process %+v, the VM says %+v", *got, want)
		}
	}
	for _, l := range known {
		t.Errorf("process not seen: %+v", l)
	}
	if compared < 1000 {
		t.Errorf("only %d processes compared", compared)
	}
	t.Logf("%d processes compared", compared)
}

// A name may change while a process is known: it registers, or proc_lib has not
// noted its initial call yet. One process is one pointer as long as it does not.
func TestIdentityFollowsTheProcess(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{Modules: map[string]string{"zoo": zooSource}})
	vm.Eval(t, "P = spawn(zoo, plain, [x])")
	target := attachTo(t, vm)
	addr := processOf(t, vm, target, "P")
	first := identify(t, target, addr, "")
	if first.Name != "zoo:plain/1" || first.Kind != "zoo:plain/1" || first.RegisteredName != "" {
		t.Errorf("spawned: %+v", *first)
	}
	if again := identify(t, target, addr, "elsewhere:f/0"); again != first {
		t.Errorf("the same process is %+v and %+v", *first, *again)
	}
	vm.Eval(t, "register(zoo_worker_17, P)")
	registered := identify(t, target, addr, "")
	if registered.Name != "zoo_worker_17" || registered.Kind != "zoo_worker_N" || registered.InitialCall != "zoo:plain/1" {
		t.Errorf("registered: %+v", *registered)
	}
	if first.RegisteredName != "" {
		t.Error("a process that was handed out has changed")
	}
	vm.Eval(t, "unregister(zoo_worker_17)")
	if again := identify(t, target, addr, ""); again != registered {
		t.Errorf("a process keeps the name it had, but is %+v", *again)
	}
}

// What the kernel copied with the sample counts more than what memory holds later.
func TestIdentityOfEndedProcess(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{Modules: map[string]string{"zoo": zooSource}})
	vm.Eval(t, "{ok, P} = gen_server:start(zoo, [], []), Q = spawn(zoo, plain, [x]), R = spawn(fun zoo:root/0), {ok, S} = gen_server:start(zoo, [], [])")
	target := attachTo(t, vm)
	type seen struct {
		addr uint64
		head []byte
	}
	var all []seen
	for _, name := range []string{"P", "Q", "R", "S"} {
		addr := processOf(t, vm, target, name)
		head, err := target.readHead(addr)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, seen{addr, head})
	}
	var initial [3]uint64
	for i, text := range []string{"zoo", "init"} {
		initial[i], _ = target.AtomNamed(text)
	}
	initial[2] = 1<<4 | tagSmall
	vm.Eval(t, "lists:foreach(fun(X) -> M = monitor(process, X), exit(X, kill), receive {'DOWN', M, _, _, _} -> ok end end, [P, Q, R, S])")
	// Another process has the memory of the last one's dictionary by now.
	other, err := target.readHead(processOf(t, vm, target, "whereis(kernel_sup)"))
	if err != nil {
		t.Fatal(err)
	}
	at := target.Layout.Process.Dictionary
	copy(all[3].head[at:at+8], other[at:at+8])
	for i, want := range []string{"zoo:init/1", "zoo:plain/1", "zoo:root/0", "proc_lib:init_p/5"} {
		root, terms := "", [3]uint64{}
		switch i {
		case 0:
			terms = initial
		case 2:
			root = "zoo:root/0"
		}
		p, err := target.Identify(all[i].addr, all[i].head, root, Copied{InitialCall: terms})
		if err != nil || p.Name != want {
			t.Errorf("process %d is %+v (%v), not %s", i, p, err, want)
		}
	}
}

// What was copied while garbage was collected may be half there: it counts less than
// what memory holds, and than any other copy, but more than nothing.
func TestIdentityCopiedWhileCollecting(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{Modules: map[string]string{"zoo": zooSource}})
	vm.Eval(t, "{ok, P} = gen_server:start(zoo, [], []), {ok, Q} = gen_server:start(zoo, [], [])")
	target := attachTo(t, vm)
	var whole, half Copied
	for i, text := range []string{"zoo", "init"} {
		whole.InitialCall[i], _ = target.AtomNamed(text)
	}
	whole.InitialCall[2] = 1<<4 | tagSmall
	half.InitialCall = whole.InitialCall
	half.InitialCall[2], half.Collecting = 7<<4|tagSmall, true

	alive, ended := processOf(t, vm, target, "P"), processOf(t, vm, target, "Q")
	heads := map[uint64][]byte{}
	for _, addr := range []uint64{alive, ended} {
		var err error
		if heads[addr], err = target.readHead(addr); err != nil {
			t.Fatal(err)
		}
	}
	vm.Eval(t, "M = monitor(process, Q), exit(Q, kill), receive {'DOWN', M, _, _, _} -> ok end")
	for i, c := range []struct {
		addr   uint64
		copied Copied
		want   string
	}{
		{alive, half, "zoo:init/1"},
		{ended, Copied{}, "proc_lib:init_p/5"},
		{ended, half, "zoo:init/7"},
		{ended, Copied{}, "zoo:init/7"},
		{ended, whole, "zoo:init/1"},
		{ended, half, "zoo:init/1"},
	} {
		p, err := target.Identify(c.addr, heads[c.addr], "", c.copied)
		if err != nil || p.Name != c.want {
			t.Errorf("%d: the process is %+v (%v), not %s", i, p, err, c.want)
		}
	}
}

func TestIdentifyRefusesWhatIsNoProcess(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{})
	target := attachTo(t, vm)
	if _, err := target.Identify(0x1000, make([]byte, HeadSize), "", Copied{}); err == nil {
		t.Error("zeros are a process")
	}
	if _, err := target.Identify(0x1000, make([]byte, 64), "", Copied{}); err == nil {
		t.Error("64 bytes are a process")
	}
}

// Heaps move and dictionaries change while they are read: what comes out must
// be true or less, never something else.
func TestIdentityInBusyVM(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{Modules: map[string]string{"zoo": zooSource, "busy": busySource}})
	vm.Eval(t, "busy:start()")
	target := attachTo(t, vm)
	names := map[string]int{}
	for range 100 {
		for _, p := range allProcesses(t, target) {
			target.identities.Purge()
			head, err := target.readHead(p.addr)
			if err != nil {
				continue
			}
			if got, err := target.Identify(p.addr, head, "", Copied{}); err == nil && got.RegisteredName == "" {
				names[got.Name]++
			}
		}
	}
	t.Log(names)
	if names["busy:init/1"] == 0 || names["busy:short/1"] == 0 {
		t.Error("the busy processes were not seen")
	}
	known := map[string]bool{unknownProcess: true, spawnedFunction: true, "proc_lib:init_p/5": true, "proc_lib:init_p/3": true, "busy:short/1": true}
	for _, l := range oracle(t, vm, "zoo") {
		known[l.call] = true
	}
	for name := range names {
		if !known[name] {
			t.Errorf("a process was named %s", name)
		}
	}
}

// busySource has servers that collect garbage and change their dictionaries all
// the time, and processes that are born and die.
const busySource = `
-module(busy).
-behaviour(gen_server).
-export([start/0, init/1, handle_call/3, handle_cast/2, handle_info/2, short/1, churn/0]).

start() ->
    [{ok, _} = gen_server:start(?MODULE, I, []) || I <- lists:seq(1, 20)],
    spawn(?MODULE, short, [0]),
    ok.

init(I) -> process_flag(priority, low), self() ! go, {ok, I}.
handle_call(_, _, S) -> {reply, ok, S}.
handle_cast(_, S) -> {noreply, S}.
handle_info(go, S) ->
    [put({k, rand:uniform(50)}, lists:seq(1, rand:uniform(100))) || _ <- lists:seq(1, 20)],
    [erase({k, rand:uniform(50)}) || _ <- lists:seq(1, 20)],
    erlang:garbage_collect(),
    self() ! go,
    {noreply, S}.

%% Nothing but births and deaths.
churn() ->
    process_flag(priority, low),
    [spawn(fun() -> lists:seq(1, 1000) end) || _ <- lists:seq(1, 10)],
    erlang:yield(),
    churn().

short(N) ->
    spawn(?MODULE, short, [N + 1]),
    put(x, lists:seq(1, 100)),
    timer:sleep(1).
`

// The sampler and a live view may ask at the same time, and get the same pointers.
func TestConcurrentUse(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{Modules: map[string]string{"zoo": zooSource}})
	vm.Eval(t, "zoo:start(200)")
	target := attachTo(t, vm)
	processes := allProcesses(t, target)
	results := make([][]*collector.Process, 4)
	var group sync.WaitGroup
	for i := range results {
		group.Go(func() {
			for k, p := range processes {
				head, err := target.readHead(p.addr)
				if err != nil {
					t.Error(err)
					return
				}
				made, err := target.Identify(p.addr, head, "", Copied{})
				if err != nil {
					t.Error(err)
					return
				}
				results[i] = append(results[i], made)
				target.Atom(atomTerm(uint64(k)))
				target.AtomNamed("zoo")
				target.ProcessByPID(headWord(head, target.Layout.Process.ID))
			}
		})
	}
	group.Wait()
	for i := range results {
		if !slices.Equal(results[i], results[0]) {
			t.Errorf("goroutine %d got other processes", i)
		}
	}
}
