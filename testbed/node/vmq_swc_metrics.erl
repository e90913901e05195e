%% Histograms of the db calls in ETS, updated by the callers around each call.
-module(vmq_swc_metrics).
-behaviour(gen_server).
-export([start_link/0, timed/3, all/0]).
-export([init/1, handle_call/3, handle_cast/2]).

-define(BUCKETS, [10, 100, 500, 1000, 10000, 100000]). % microseconds

start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% timed runs the function and adds its duration to the group's histogram.
timed(Operation, Group, Fun) ->
    Start = erlang:monotonic_time(microsecond),
    Result = Fun(),
    Duration = erlang:monotonic_time(microsecond) - Start,
    Key = {Operation, Group},
    Columns = [{2, 1}, {3, Duration} | [{I, 1} || {I, Limit} <- lists:zip(lists:seq(4, 9), ?BUCKETS), Duration =< Limit]],
    _ = ets:update_counter(?MODULE, Key, Columns, {Key, 0, 0, 0, 0, 0, 0, 0, 0}),
    Result.

all() -> ets:tab2list(?MODULE).

init([]) ->
    testbed_truth:be(?MODULE, housekeeping),
    ets:new(?MODULE, [named_table, public, {write_concurrency, true}]),
    {ok, []}.

handle_call(_, _, State) -> {reply, ok, State}.
handle_cast(_, State) -> {noreply, State}.
