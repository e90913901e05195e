%% Exact truth: on-scheduler time by process, request and workload, from
%% erlang:trace running events, what is sent over the distribution from send
%% events, and the marks of testbed_truth that say for whom.
-module(testbed_capture).
-export([start/0, stop/0, result/0]).

-define(CAPACITY, 3000000). % records; 72 bytes each, taken from the system only as they are used
-define(CHUNK, 20000).

%% start begins a capture.
-spec start() -> ok.
start() ->
    ok = testbed_tracer:start(?CAPACITY, node()),
    persistent_term:put(?MODULE, eleveldb:pool_stats()),
    _ = erlang:trace_pattern({testbed_truth, mark, 4}, true, [global]),
    _ = erlang:trace_pattern({testbed_truth, mark_port, 3}, true, [global]),
    _ = erlang:trace(all, true, [running, running_ports, exiting, send, call, {tracer, testbed_tracer, []}]),
    _ = [testbed_truth:port(Port, distribution_port, unmarked) || {_, Port} <- erlang:system_info(dist_ctrl)],
    ok.

%% stop ends the capture.
-spec stop() -> ok.
stop() ->
    Before = persistent_term:get(?MODULE),
    {Records, Dropped} = testbed_tracer:stop(),
    Native = native(Before, eleveldb:pool_stats()),
    _ = erlang:trace(all, false, [all]),
    _ = erlang:trace_pattern({testbed_truth, '_', '_'}, false, [global]),
    persistent_term:put(?MODULE, #{records => Records, dropped => Dropped, native => Native}).

%% result returns what the stopped capture saw, once.
-spec result() -> map().
result() ->
    #{records := Records} = Figures = persistent_term:get(?MODULE),
    Fold = read(0, Records, testbed_fold:new()),
    ok = testbed_tracer:free(),
    maps:merge(Figures, testbed_fold:result(Fold)).

read(From, Records, Fold) when From >= Records -> Fold;
read(From, Records, Fold) ->
    read(From + ?CHUNK, Records, lists:foldl(fun testbed_fold:event/2, Fold, testbed_tracer:read(From, ?CHUNK))).

%% native is the pool threads' CPU time by workload, during the capture.
native(Before, After) ->
    [#{workload => W, operations => N - N0, nanoseconds => T - T0}
     || {W, N, T} <- After,
        {N0, T0} <- [case lists:keyfind(W, 1, Before) of {_, A, B} -> {A, B}; false -> {0, 0} end]].
