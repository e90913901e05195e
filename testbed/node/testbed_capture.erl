%% Exact truth: on-scheduler time by process, request and workload, from
%% erlang:trace running events and the marks of testbed_truth that say for whom;
%% and what is sent over the distribution, from marks too.
%%
%% Tracing costs time inside what it measures. How much for each slice and each
%% mark is measured before a capture, and taken off by testbed_fold.
-module(testbed_capture).
-export([start/0, stop/0, result/0]).

-define(CAPACITY, 3000000). % records; 72 bytes each, taken from the system only as they are used
-define(CHUNK, 20000).
-define(MARKS, [{testbed_truth, mark, 4}, {testbed_truth, mark_port, 3}, {testbed_truth, mark_sent, 3}]).
-define(FLAGS, [running, call, {tracer, testbed_tracer, []}]).
-define(ROUNDS, 2000).

%% start begins a capture.
-spec start() -> ok.
start() ->
    [1 = erlang:trace_pattern(MFA, true, [global]) || MFA <- ?MARKS],
    Overhead = calibrate(),
    ok = testbed_tracer:start(?CAPACITY, node()),
    persistent_term:put(?MODULE, {Overhead, eleveldb:pool_stats()}),
    _ = erlang:trace(all, true, [running_ports, exiting | ?FLAGS]),
    _ = [testbed_truth:port(Port, distribution_port, unmarked) || {_, Port} <- erlang:system_info(dist_ctrl)],
    testbed_truth:new_capture().

%% stop ends the capture.
-spec stop() -> ok.
stop() ->
    {Overhead, Before} = persistent_term:get(?MODULE),
    {Records, Dropped} = testbed_tracer:stop(),
    Native = native(Before, eleveldb:pool_stats()),
    _ = erlang:trace(all, false, [all]),
    _ = [erlang:trace_pattern(MFA, false, [global]) || MFA <- ?MARKS],
    persistent_term:put(?MODULE, #{overhead => Overhead, records => Records, dropped => Dropped, native => Native}).

%% result returns what the stopped capture saw, once.
-spec result() -> map().
result() ->
    #{records := Records, overhead := Overhead} = Figures = persistent_term:get(?MODULE),
    Fold = read(0, Records, testbed_fold:new(Overhead)),
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

%% calibrate measures what tracing adds, besides the tracer's own time, to the time
%% around a mark and to a slice, in nanoseconds. Half of what scheduling out and in
%% takes longer is inside of slices, and half between them.
calibrate() ->
    Mark = fun(N) -> testbed_truth:mark(testbed, testbed, calibrate, N) end,
    Yield = fun(_) -> erlang:yield() end,
    Self = self(),
    Data = binary:copy(<<1>>, 20000), % to have the caches used for something else
    Pid = spawn_link(fun() ->
        Plain = [rounds(F, Data) || F <- [Mark, Yield]],
        Self ! {self(), untraced},
        receive traced -> ok end,
        Self ! {self(), lists:zipwith(fun(Before, F) -> rounds(F, Data) - Before end, Plain, [Mark, Yield])}
    end),
    receive {Pid, untraced} -> ok end,
    ok = testbed_tracer:start(20 * ?ROUNDS, node()),
    1 = erlang:trace(Pid, true, ?FLAGS),
    Pid ! traced,
    [MarkCost, YieldCost] = receive {Pid, Costs} -> Costs end,
    {Records, 0} = testbed_tracer:stop(),
    Events = testbed_tracer:read(0, Records),
    ok = testbed_tracer:free(),
    Own = fun(Kind) -> median([End - Begin || {K, _, _, {Begin, End, _}, _, _, _, _} <- Events, K =:= Kind]) end,
    #{mark => max(0, MarkCost - Own(mark)), slice => max(0, (YieldCost - Own(in) - Own(out)) div 2)}.

%% rounds calls the function again and again with other work in between, and
%% returns the median of how long both take.
rounds(Fun, Data) ->
    median([begin
                Start = os:perf_counter(nanosecond),
                _ = erlang:crc32(Data),
                _ = Fun(N),
                os:perf_counter(nanosecond) - Start
            end || N <- lists:seq(1, ?ROUNDS)]).

median(Values) -> lists:nth((length(Values) + 1) div 2, lists:sort(Values)).
