%% Real repair: the first node has written objects of which the second never
%% heard; exchanges fetch them, a limited number each. The rate is objects per second.
-module(load_repair).
-behaviour(load).
-export([prepare/2, start/1, stop/1]).

-define(OBJECTS, 100). % fetched by each exchange, on average
-define(GROUPS, 10).
-define(SPARE, 5).     % seconds more than asked for
-define(NEVER, #{interval => 86400000, jitter => 0, limit => {around, ?OBJECTS}}).
-define(IDLE, #{interval => 5000, jitter => 2500, limit => 1000000}).

prepare(#{nodes := [Serving, Pulling], seconds := Seconds}, Rate) ->
    ok = testbed_nodes:call(Pulling, {configure, ?NEVER}),
    timer:sleep(500), % an exchange that is under way
    ok = testbed_nodes:call(Serving, {seed, missed, ceil(Rate * (Seconds + ?SPARE) / ?GROUPS)}),
    {Pulling, Rate, none}.

start({Pulling, Rate, _}) ->
    Interval = max(20, round(1000 * ?GROUPS * ?OBJECTS / Rate)),
    Before = testbed_nodes:call(Pulling, counters),
    ok = testbed_nodes:call(Pulling, {configure, #{interval => Interval - Interval div 10, jitter => Interval div 5}}),
    {Pulling, Rate, Before}.

stop({Pulling, _, Before}) ->
    After = testbed_nodes:call(Pulling, counters),
    ok = testbed_nodes:call(Pulling, {configure, ?IDLE}), % what is left comes in one exchange
    maps:from_list([{Name, maps:get(Name, After) - maps:get(Name, Before)} || Name <- [ae_exchanges, ae_objects_synced]]).
