%% Empty sync: the first node holds objects of its former incarnation, which the
%% second one fetches at every exchange and never takes over in its clock, as
%% after a dirty rejoin. The rate is objects per second.
-module(load_ae).
-behaviour(load).
-export([prepare/2, start/1, stop/1]).

-define(OBJECTS, 200). % per group, fetched by each exchange
-define(GROUPS, 10).
-define(NEVER, #{interval => 86400000, jitter => 0}).
-define(IDLE, #{interval => 5000, jitter => 2500, limit => 1000000}).

prepare(#{nodes := [Serving, Pulling]}, Rate) ->
    ok = testbed_nodes:call(Pulling, {configure, ?NEVER}), % no exchange while there is a part of them
    ok = testbed_nodes:call(Serving, {seed, stale, ?OBJECTS}),
    {Serving, Pulling, Rate, none}.

start({Serving, Pulling, Rate, _}) ->
    Interval = max(20, round(1000 * ?GROUPS * ?OBJECTS / Rate)),
    Before = testbed_nodes:call(Pulling, counters),
    ok = testbed_nodes:call(Pulling, {configure, #{interval => Interval - Interval div 10, jitter => Interval div 5}}),
    {Serving, Pulling, Rate, Before}.

stop({Serving, Pulling, _, Before}) ->
    ok = testbed_nodes:call(Pulling, {configure, ?IDLE}),
    ok = testbed_nodes:call(Serving, {seed, stale, 0}),
    After = testbed_nodes:call(Pulling, counters),
    maps:with([ae_exchanges, ae_objects_synced], testbed_nodes:difference(Before, After)).
