%% Calls a function at a chosen rate, open loop: what falls behind is caught up
%% with, never dropped.
-module(load_pace).
-export([start/2, stop/1]).

-define(TICK, 5). % milliseconds

%% start(Rate, Fun): a process that calls Fun(N), N = 0, 1, ..., Rate times a second.
-spec start(number(), fun((non_neg_integer()) -> term())) -> pid().
start(Rate, Fun) ->
    spawn_link(fun() -> loop(erlang:monotonic_time(millisecond), Rate, Fun, 0) end).

%% stop ends it and returns how often the function was called.
-spec stop(pid()) -> non_neg_integer().
stop(Pacer) ->
    Ref = monitor(process, Pacer),
    Pacer ! {stop, self(), Ref},
    receive
        {Ref, Count} -> demonitor(Ref, [flush]), Count;
        {'DOWN', Ref, _, _, Reason} -> exit(Reason)
    end.

loop(Start, Rate, Fun, Done) ->
    Due = trunc((erlang:monotonic_time(millisecond) - Start) * Rate / 1000),
    [Fun(N) || N <- lists:seq(Done, Due - 1)],
    receive
        {stop, Pid, Ref} -> Pid ! {Ref, max(Done, Due)}
    after ?TICK -> loop(Start, Rate, Fun, max(Done, Due))
    end.
