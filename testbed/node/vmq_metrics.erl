%% The node's counters, and their rates, computed each second.
-module(vmq_metrics).
-behaviour(gen_server).
-export([start_link/0, init_counters/0, incr/2, all/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(COUNTERS, [socket_open, socket_close, mqtt_connect_received, mqtt_connack_sent, mqtt_publish_received, mqtt_publish_sent,
                   register_failures, session_take_overs, unknown_sync_events, queue_setup, queue_teardown, queue_message_drop,
                   cluster_messages_sent, cluster_message_drop, swc_writes, swc_replicated, ae_exchanges, ae_objects_synced,
                   log_lines, rpc_calls, rpc_casts, rpc_bytes]).
-define(INTERVAL, 1000).

start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% init_counters makes the counters; they outlive the server.
init_counters() ->
    Indices = lists:zip(?COUNTERS, lists:seq(1, length(?COUNTERS))),
    persistent_term:put(?MODULE, {counters:new(length(?COUNTERS), [write_concurrency]), maps:from_list(Indices)}).

incr(Name, N) ->
    {Counters, Indices} = persistent_term:get(?MODULE),
    counters:add(Counters, maps:get(Name, Indices), N).

%% all() -> #{Name => Value}
all() ->
    {Counters, Indices} = persistent_term:get(?MODULE),
    maps:map(fun(_, I) -> counters:get(Counters, I) end, Indices).

init([]) ->
    testbed_truth:be(?MODULE, housekeeping),
    erlang:send_after(?INTERVAL, self(), calc_rates),
    {ok, {all(), #{}}}.

handle_call(_, _, State) -> {reply, ok, State}.
handle_cast(_, State) -> {noreply, State}.

handle_info(calc_rates, {Last, _}) ->
    testbed_truth:work(housekeeping, calc_rates),
    erlang:send_after(?INTERVAL, self(), calc_rates),
    Now = all(),
    {noreply, {Now, maps:map(fun(Name, Value) -> Value - maps:get(Name, Last) end, Now)}}.
