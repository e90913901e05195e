%% The load generator's main program, a VM of its own:
%%   erl -s testbed_load main -extra run state=DIR scenario=NAME seconds=S [rate=R] [truth=true] ...
%% It prints one JSON object a line on stdout; see README.md for the schemas.
-module(testbed_load).
-export([main/0]).
-export([window/4, print/1]).

%% main returns at once, so that the VM is up and heeds SIGTERM while loads run.
main() -> spawn(fun run/0).

run() ->
    try
        [Command | Pairs] = init:get_plain_arguments(),
        Options = maps:from_list([{list_to_atom(K), V} || P <- Pairs, [K, V] <- [string:split(P, "=")]]),
        Nodes = testbed_nodes:cluster(maps:get(state, Options)),
        command(Command, Nodes, Options),
        halt(0)
    catch
        throw:Message -> usage(Message);
        Class:Reason:Stack ->
            io:format(standard_error, "testbed: ~p: ~p~n~p~n", [Class, Reason, Stack]),
            halt(1)
    end.

usage(Message) ->
    io:format(standard_error, "testbed: ~s~n", [Message]),
    halt(2).

command("run", Nodes, Options) ->
    Loads = loads(Options),
    Context = context(Nodes, Options),
    Truth = maps:get(truth, Options, "false") =:= "true",
    print(maps:merge(window(Nodes, Loads, Context, Truth), #{event => result, schema => <<"testbed.run/1">>, scenario => scenario(Options)}));
command("ablation", Nodes, Options) ->
    print(testbed_ablation:run(Nodes, loads(Options), context(Nodes, Options), scenario(Options)));
command("traffic", Nodes, Options) ->
    [Calls, Casts, Bytes] = [list_to_integer(maps:get(Key, Options)) || Key <- [calls, casts, bytes]],
    print(testbed_traffic:run(Nodes, Calls, Casts, Bytes)).

scenario(Options) -> list_to_binary(maps:get(scenario, Options)).

context(Nodes, Options) ->
    Tls = maps:get(tls, Options, "false") =:= "true",
    Tls andalso application:ensure_all_started(ssl),
    #{nodes => Nodes, seconds => list_to_integer(maps:get(seconds, Options)), tls => Tls,
      connections => maps:get(connections, Options, none)}.

loads(#{scenario := Name} = Options) ->
    case testbed_scenario:loads(list_to_atom(Name), rates(maps:get(rate, Options, none))) of
        {ok, Loads} -> Loads;
        error ->
            throw(io_lib:format("no scenario ~s with such rates; there are: ~s",
                                [Name, lists:join(" ", [atom_to_list(N) || N <- testbed_scenario:names()])]))
    end.

%% rates reads "200" or "churn=50,publish=100".
rates(none) -> none;
rates(Text) ->
    case string:split(Text, "=") of
        [Number] -> number(Number);
        _ -> maps:from_list([case string:split(Part, "=") of
                                 [Load, Rate] -> {list_to_atom(Load), number(Rate)};
                                 _ -> throw("rates look like 200 or churn=50,publish=100")
                             end || Part <- string:lexemes(Text, ",")])
    end.

number(Text) ->
    case string:to_integer(Text) of
        {N, ""} when N > 0 -> N;
        _ -> throw("a rate is a positive whole number, not " ++ Text)
    end.

%% window runs the loads for the context's seconds and returns what happened in
%% them: CPU, counters and traffic of each node, and the truth if one is taken.
window(Nodes, Loads, #{seconds := Seconds} = Context, Truth) ->
    Prepared = [{Load, Rate, (load:module(Load)):prepare(Context, Rate)} || {Load, Rate} <- Loads],
    testbed_nodes:settle(Nodes),
    Truth andalso [ok = testbed_nodes:call(Node, {capture, start}) || Node <- Nodes],
    Before = snapshot(Nodes, Context),
    Start = mark(window_start),
    Started = [{Load, Rate, (load:module(Load)):start(State)} || {Load, Rate, State} <- Prepared],
    timer:sleep(Seconds * 1000),
    End = mark(window_end),
    After = snapshot(Nodes, Context),
    Truth andalso [ok = testbed_nodes:call(Node, {capture, stop}) || Node <- Nodes],
    Results = [#{load => Load, rate => Rate, done => (load:module(Load)):stop(State)} || {Load, Rate, State} <- Started],
    testbed_nodes:settle(Nodes),
    Captures = [testbed_nodes:call(Node, {capture, result}) || Node <- Nodes, Truth],
    Figures = [node_result(Node, B, A) || {Node, B, A} <- lists:zip3(Nodes, Before, After)],
    #{seconds => (End - Start) / 1.0e9, window => #{start_monotonic_ns => Start, end_monotonic_ns => End}, loads => Results,
      nodes => case Truth of true -> testbed_truth_report:add(Figures, Captures); false -> Figures end}.

%% mark prints the moment (CLOCK_MONOTONIC) so that observers can line up with it.
mark(Event) ->
    Now = os:perf_counter(nanosecond),
    print(#{event => Event, monotonic_ns => Now}),
    Now.

snapshot(Nodes, Context) ->
    [#{cpu => testbed_cpu:read(maps:get(pid, Node)), counters => testbed_nodes:call(Node, counters),
       distribution => testbed_nodes:call(Node, distribution),
       microstates => case Context of #{accounting := true} -> testbed_nodes:call(Node, accounting); _ -> none end} || Node <- Nodes].

node_result(#{name := Name, pid := Pid}, Before, After) ->
    #{cpu := Cpu0, counters := Counters0, distribution := Distribution0, microstates := States0} = Before,
    #{cpu := Cpu1, counters := Counters1, distribution := Distribution1, microstates := States1} = After,
    Result = #{name => Name, pid => Pid, cpu => testbed_cpu:difference(Cpu0, Cpu1), counters => testbed_nodes:difference(Counters0, Counters1),
               distribution => [testbed_nodes:difference(D0, D1) || {D0, D1} <- lists:zip(Distribution0, Distribution1)]},
    case States1 of
        none -> Result;
        _ -> Result#{microstates => maps:map(fun(Type, States) -> testbed_nodes:difference(maps:get(Type, States0), States) end, States1)}
    end.

print(Map) -> io:put_chars([testbed_json:encode(Map), $\n]).
