%% One anti-entropy exchange, on the node that pulls: lock the local store, ask
%% the peer for its clock and watermark, fetch the objects of the missing dots in
%% batches and hand them to the local store for repair.
-module(vmq_swc_exchange_fsm).
-behaviour(gen_statem).
-include("testbed.hrl").
-export([start_link/3]).
-export([init/1, callback_mode/0, prepare/3, update_local/3, local_sync_repair/3, terminate/3]).

-define(BATCH, 100).
-define(TIMEOUT, 60000).

-record(exchange, {group, peer, limit, clock, remote_clock, remote_watermark, missing = [], more = false, batch = [], count = 0}).

start_link(Group, Peer, Limit) ->
    gen_statem:start_link(?MODULE, [Group, Peer, Limit], []).

callback_mode() -> state_functions.

init([Group, Peer, Limit]) ->
    testbed_truth:be('vmq_swc_exchange_fsm:init/1', ae_exchange),
    {ok, prepare, #exchange{group = Group, peer = Peer, limit = Limit},
     [{next_event, internal, lock}, {{timeout, exchange}, ?TIMEOUT, stop}]}.

prepare(internal, lock, #exchange{group = Group, peer = Peer} = E) ->
    testbed_truth:work(ae_exchange, prepare),
    case vmq_swc_store:lock(Group) of
        ok ->
            as_event(fun() -> {node_clock, vmq_swc_store:remote_node_clock(Group, Peer)} end),
            {keep_state, E#exchange{clock = vmq_swc_store:node_clock(Group)}};
        {error, Reason} ->
            ?ERROR("Replica ~p: can't acquire local lock due to ~p", [Group, Reason]),
            teardown(E)
    end;
prepare(cast, {node_clock, {ok, Clock}}, #exchange{group = Group, peer = Peer} = E) ->
    testbed_truth:work(ae_exchange, prepare),
    as_event(fun() -> {watermark, vmq_swc_store:remote_watermark(Group, Peer)} end),
    {keep_state, E#exchange{remote_clock = Clock}};
prepare(cast, {watermark, {ok, Watermark}}, #exchange{clock = Clock, remote_clock = Remote, limit = Limit} = E) ->
    testbed_truth:work(ae_exchange, prepare),
    Missing = swc_node:missing(Clock, Remote, Limit),
    {next_state, update_local, E#exchange{remote_watermark = Watermark, missing = Missing, more = length(Missing) =:= Limit},
     {next_event, internal, fetch}};
prepare(cast, {What, {error, Reason}}, #exchange{group = Group} = E) ->
    testbed_truth:work(ae_exchange, prepare),
    Text = case What of node_clock -> "remote node clock"; watermark -> "remote watermark" end,
    ?WARNING("Replica ~p: couldn't request " ++ Text ++ " due to ~p", [Group, Reason]),
    teardown(E);
prepare({timeout, exchange}, stop, #exchange{group = Group} = E) ->
    ?WARNING("Replica ~p: AE exchange prepare step timed out in ~p", [Group, prepare]),
    teardown(E).

update_local(internal, fetch, #exchange{missing = []} = E) ->
    {next_state, local_sync_repair, E, {next_event, internal, finish}};
update_local(internal, fetch, #exchange{group = Group, peer = Peer, missing = Missing} = E) ->
    testbed_truth:work(ae_exchange, update_local),
    {Batch, Rest} = lists:split(min(?BATCH, length(Missing)), Missing),
    as_event(fun() -> {objects, vmq_swc_store:remote_sync_missing(Group, Peer, Batch)} end),
    {keep_state, E#exchange{missing = Rest, batch = Batch}};
update_local(cast, {objects, {ok, Objects}}, E) ->
    testbed_truth:work(ae_exchange, update_local),
    {next_state, local_sync_repair, E, {next_event, internal, {repair, Objects}}};
update_local(_, _, E) ->
    teardown(E).

local_sync_repair(internal, {repair, Objects}, #exchange{group = Group, remote_clock = Clock, batch = Batch, count = Count} = E) ->
    testbed_truth:work(ae_exchange, local_sync_repair),
    ok = vmq_swc_store:sync_repair(Group, Objects, Clock, peer(E), {partial, Batch}),
    {next_state, update_local, E#exchange{count = Count + length(Objects)}, {next_event, internal, fetch}};
local_sync_repair(internal, finish, #exchange{group = Group, peer = Peer, remote_clock = Clock, more = More, count = Count} = E) ->
    testbed_truth:work(ae_exchange, local_sync_repair),
    ok = vmq_swc_store:sync_repair(Group, [], Clock, peer(E), case More of true -> {partial, []}; false -> done end),
    vmq_metrics:incr(ae_exchanges, 1),
    vmq_metrics:incr(ae_objects_synced, Count),
    Count > 0 andalso ?INFO("Replica ~p: AE exchange with ~p synced ~p objects", [Group, Peer, Count]),
    teardown(E);
local_sync_repair(_, _, E) ->
    teardown(E).

peer(#exchange{peer = Peer, remote_watermark = Watermark}) -> {Peer, Watermark}.

teardown(_) -> {stop, normal}.

%% The store watches the lock's holder, so it is unlocked when this process is gone.
terminate(_Reason, _State, _Data) -> ok.

%% as_event runs the function in a process of its own; its result comes back as an event.
as_event(Fun) ->
    Self = self(),
    spawn_link(fun() ->
                   testbed_truth:be('vmq_swc_exchange_fsm:-as_event/1-fun-0-/0', ae_exchange),
                   gen_statem:cast(Self, Fun())
               end).
