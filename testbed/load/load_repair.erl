%% Real repair: the first node has written objects of which the second never
%% heard; exchanges fetch them, a limited number each. The rate is objects per second.
-module(load_repair).
-behaviour(load).
-export([prepare/2, start/1, stop/1]).

-define(OBJECTS, 100). % fetched by each exchange, on average
-define(GROUPS, 10).
-define(SPARE, 5).     % seconds more than asked for
-define(NEVER, #{interval => 86400000, jitter => 0, limit => {around, ?OBJECTS}}).
-define(SOON, #{interval => 200, jitter => 0, limit => 1000000}).
-define(IDLE, #{interval => 5000, jitter => 2500}).
-define(PATIENCE, 30000).

prepare(#{nodes := [Serving, Pulling], seconds := Seconds}, Rate) ->
    ok = testbed_nodes:call(Pulling, {configure, ?NEVER}),
    timer:sleep(500), % an exchange that is under way
    Count = ceil(Rate * (Seconds + ?SPARE) / ?GROUPS),
    ok = testbed_nodes:call(Serving, {seed, missed, Count}),
    {Pulling, Rate, Count * ?GROUPS, none}.

start({Pulling, Rate, Seeded, _}) ->
    Interval = max(20, round(1000 * ?GROUPS * ?OBJECTS / Rate)),
    Before = testbed_nodes:call(Pulling, counters),
    ok = testbed_nodes:call(Pulling, {configure, #{interval => Interval - Interval div 10, jitter => Interval div 5}}),
    {Pulling, Rate, Seeded, Before}.

stop({Pulling, _, Seeded, #{ae_objects_synced := Before} = Counters}) ->
    After = testbed_nodes:call(Pulling, counters),
    ok = testbed_nodes:call(Pulling, {configure, ?SOON}),
    await(Pulling, Before + Seeded, ?PATIENCE), % the rest, so that the next load is alone
    ok = testbed_nodes:call(Pulling, {configure, ?IDLE}),
    (maps:with([ae_exchanges, ae_objects_synced], testbed_nodes:difference(Counters, After)))#{seeded => Seeded}.

await(_, _, Left) when Left =< 0 -> timeout;
await(Pulling, Synced, Left) ->
    case testbed_nodes:call(Pulling, counters) of
        #{ae_objects_synced := N} when N >= Synced -> ok;
        _ -> timer:sleep(100), await(Pulling, Synced, Left - 100)
    end.
