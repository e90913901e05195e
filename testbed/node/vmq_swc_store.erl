%% The store of one metadata group: its clocks and all of its writes, whether
%% from this node, live from a peer, or from an anti-entropy exchange.
-module(vmq_swc_store).
-behaviour(gen_server).
-export([start_link/1, write/3, read/2, fold/3, subscribe/2, set_peers/2, configure/2, seed/3]).
-export([lock/1, node_clock/1, sync_repair/5, remote_node_clock/2, remote_watermark/2, remote_sync_missing/3]).
-export([rpc_node_clock/1, rpc_watermark/1, rpc_sync_missing/3, rpc_broadcast/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(GC_INTERVAL, 15000).
-define(GC_LIMIT, 2000).
-define(SCAN, 500).

-record(state, {
    group, id, peers = [],
    clock = swc_node:new(),
    watermark = #{},           % node => what that node has seen: writer => counter
    dkm, lock = none, subscribers = [],
    sync = #{interval => 5000, jitter => 2500, limit => 1000000}
}).

start_link(Group) -> gen_server:start_link({local, name(Group)}, ?MODULE, [Group], []).

name(Group) -> vmq_swc_config:name(store, Group).

%% ---- for the node ----

%% write stores a value ('$deleted' for a tombstone) and returns when it is stored here.
write(Group, PKey, Value) -> vmq_swc_store_batcher:add(Group, PKey, Value, testbed_truth:tag()).

%% read runs in the caller: only the db server is asked.
read(Group, PKey) ->
    case vmq_swc_db:get(Group, object_key(PKey)) of
        {ok, {_, Object}} -> swc_kv:value(Object);
        not_found -> undefined
    end.

%% fold goes over all keys and values of a group, in the caller.
fold(Fun, Acc, Group) -> fold(Fun, Acc, Group, <<"o">>).

fold(Fun, Acc, Group, From) ->
    Pairs = vmq_swc_db:range(Group, From, ?SCAN),
    Objects = lists:takewhile(fun({Key, _}) -> binary:first(Key) =:= $o end, Pairs),
    Acc1 = lists:foldl(fun({_, {PKey, Object}}, A) -> Fun(PKey, swc_kv:value(Object), A) end, Acc, Objects),
    case length(Objects) of
        ?SCAN -> fold(Fun, Acc1, Group, <<(element(1, lists:last(Objects)))/binary, 0>>);
        _ -> Acc1
    end.

%% subscribe sends {updated, PKey, Old, New, Tag} to the caller for each change under the prefix.
subscribe(Group, Prefix) -> gen_server:call(name(Group), {subscribe, Prefix, self()}, infinity).

set_peers(Group, Peers) -> gen_server:call(name(Group), {set_peers, Peers}, infinity).

%% configure changes the exchanges of this node: interval, jitter (milliseconds), limit (objects).
configure(Group, Sync) -> gen_server:call(name(Group), {configure, Sync}, infinity).

%% seed(Group, stale | missed, Count): see README. stale with 0 takes stale objects away.
seed(Group, What, Count) -> gen_server:call(name(Group), {seed, What, Count}, infinity).

%% ---- for exchanges ----

lock(Group) -> gen_server:call(name(Group), {lock, self()}, infinity).
node_clock(Group) -> gen_server:call(name(Group), get_node_clock, infinity).

%% sync_repair stores what a peer had and this node lacked. {partial, Dots}: only
%% these dots are known to be fetched; done: all that the peer's clock holds.
sync_repair(Group, Objects, RemoteClock, {Peer, RemoteWatermark}, Extent) ->
    gen_server:call(name(Group), {sync_repair, Objects, RemoteClock, {Peer, RemoteWatermark}, Extent}, infinity).

remote_node_clock(Group, Peer) -> vmq_swc_edist_srv:call(Group, Peer, rpc_node_clock, [Group]).
remote_watermark(Group, Peer) -> vmq_swc_edist_srv:call(Group, Peer, rpc_watermark, [Group]).
remote_sync_missing(Group, Peer, Dots) -> vmq_swc_edist_srv:call(Group, Peer, rpc_sync_missing, [Group, node(), Dots]).

%% ---- what peers apply here, in processes of the transport ----

rpc_node_clock(Group) -> {ok, node_clock(Group)}.
rpc_watermark(Group) -> {ok, gen_server:call(name(Group), get_watermark, infinity)}.
rpc_sync_missing(Group, Peer, Dots) -> {ok, gen_server:call(name(Group), {sync_missing, Peer, Dots}, infinity)}.
rpc_broadcast(Group, Peer, Objects) -> gen_server:cast(name(Group), {swc_broadcast, Peer, Objects}).

%% ---- the server ----

init([Group]) ->
    testbed_truth:be(vmq_swc_store_metaN, housekeeping),
    process_flag(priority, high),
    State = #state{group = Group, id = {node(), 1}, dkm = vmq_swc_dkm:new()},
    schedule_sync(next_sync(State)),
    erlang:send_after(?GC_INTERVAL, self(), do_gc),
    {ok, State}.

handle_call({batch, Ops}, _From, State) ->
    {Objects, State1} = lists:mapfoldl(fun(Op, S) -> process_write_op(Op, S, local) end, State, Ops),
    testbed_truth:serve(broadcast, last_tag(Ops)),
    [gen_cast(Peer, State1, [{PKey, swc_kv:fill(New, State1#state.clock)} || {PKey, _, New, _} <- Objects]) || Peer <- State1#state.peers],
    vmq_metrics:incr(swc_writes, length(Objects)),
    {reply, ok, State1};
handle_call({lock, Pid}, _From, #state{lock = none} = State) ->
    testbed_truth:work(ae_exchange, lock),
    {reply, ok, State#state{lock = monitor(process, Pid)}};
handle_call({lock, _}, _From, State) ->
    testbed_truth:work(ae_exchange, lock),
    {reply, {error, already_locked}, State};
handle_call(get_node_clock, _From, State) ->
    testbed_truth:work(ae_exchange, get_node_clock),
    {reply, State#state.clock, State};
handle_call(get_watermark, _From, State) ->
    testbed_truth:work(ae_exchange, get_watermark),
    {reply, State#state.watermark, State};
handle_call({sync_missing, _Peer, Dots}, From, #state{group = Group, dkm = Dkm} = State) ->
    testbed_truth:work(ae_exchange, sync_missing),
    spawn_link(fun() ->
                   testbed_truth:be('vmq_swc_store:-handle_call/3-fun-N-', ae_exchange),
                   gen_server:reply(From, lists:flatmap(fun(Dot) -> missing_object(Group, Dkm, Dot) end, Dots))
               end),
    {noreply, State};
handle_call({sync_repair, Objects, RemoteClock, {Peer, RemoteWatermark}, Extent}, _From, State) ->
    testbed_truth:work(ae_exchange, sync_repair),
    State1 = fill_strip_save_batch(Objects, RemoteClock, State),
    Clock = sync_clocks(State1, RemoteClock, Extent),
    State2 = State1#state{clock = Clock, watermark = update_watermark_after_sync(State1#state.watermark, node(), Clock, Peer, RemoteClock, RemoteWatermark)},
    vmq_swc_db:write(State#state.group, [{put, <<"clock">>, Clock}, {put, <<"watermark">>, State2#state.watermark}]),
    {reply, ok, incremental_gc(State2)};
handle_call({subscribe, Prefix, Pid}, _From, #state{subscribers = Subscribers} = State) ->
    testbed_truth:work(housekeeping, subscribe),
    {reply, ok, State#state{subscribers = [{Prefix, Pid} | Subscribers]}};
handle_call({set_peers, Peers}, _From, State) ->
    testbed_truth:work(housekeeping, set_peers),
    {reply, ok, State#state{peers = Peers}};
handle_call({configure, Sync}, _From, State) ->
    testbed_truth:work(testbed, configure),
    State1 = State#state{sync = maps:merge(State#state.sync, Sync)},
    #{interval := Interval} = State1#state.sync,
    schedule_sync(rand:uniform(Interval)), % so that the groups' exchanges are spread evenly
    {reply, ok, State1};
handle_call({seed, What, Count}, _From, State) ->
    testbed_truth:work(testbed, seed),
    {reply, ok, seed_objects(What, Count, State)}.

handle_cast({swc_broadcast, _Peer, Objects}, State) ->
    testbed_truth:work(replication, swc_broadcast),
    vmq_metrics:incr(swc_replicated, length(Objects)),
    {noreply, lists:foldl(fun process_replicate_op/2, State, Objects)}.

handle_info(sync, #state{group = Group, peers = Peers, lock = Lock, sync = #{limit := Limit}} = State) ->
    testbed_truth:work(ae_exchange, sync),
    Peers =/= [] andalso Lock =:= none andalso
        vmq_swc_exchange_sup:start_exchange(Group, lists:nth(rand:uniform(length(Peers)), Peers), limit(Limit)),
    schedule_sync(next_sync(State)),
    {noreply, State};
handle_info({'DOWN', Lock, process, _, _}, #state{lock = Lock} = State) ->
    testbed_truth:work(ae_exchange, unlock),
    {noreply, State#state{lock = none}};
handle_info(do_gc, State) ->
    testbed_truth:work(housekeeping, do_gc),
    erlang:send_after(?GC_INTERVAL, self(), do_gc),
    {noreply, incremental_gc(State)};
handle_info(_, State) ->
    {noreply, State}.

%% limit({around, N}) varies from exchange to exchange, as a real repair's does.
limit({around, N}) -> N div 2 + rand:uniform(N);
limit(N) -> N.

next_sync(#state{sync = #{interval := Interval, jitter := Jitter}}) -> Interval + rand:uniform(Jitter + 1) - 1.

%% schedule_sync sets the one timer there is, in milliseconds.
schedule_sync(Delay) ->
    case erase(sync_timer) of
        undefined -> ok;
        Old -> erlang:cancel_timer(Old)
    end,
    put(sync_timer, erlang:send_after(Delay, self(), sync)).

%% ---- writes ----

%% last_tag: whom a batch's broadcast is booked to; most batches have one origin.
last_tag(Ops) -> element(3, lists:last(Ops)).

process_write_op({PKey, Value, Tag}, #state{id = Id, clock = Clock} = State, local) ->
    testbed_truth:serve(batch, Tag),
    Old = local_object(PKey, State),
    {Dot, Clock1} = swc_node:event(Clock, Id),
    New = swc_kv:write(swc_kv:fill(Old, Clock), Dot, Value),
    {{PKey, Old, New, Tag}, strip_save_batch([{PKey, Old, New}], Tag, Clock1, [], State)}.

process_replicate_op({PKey, Object}, #state{clock = Clock} = State) ->
    Old = local_object(PKey, State),
    New = swc_kv:sync(swc_kv:fill(Old, Clock), Object),
    Clock1 = lists:foldl(fun(Dot, C) -> swc_node:add(C, Dot) end, Clock, swc_kv:dots(Object)),
    %% What the change sets off on this node (queues, routes) is the client's doing.
    strip_save_batch([{PKey, Old, New}], testbed_truth:tag(client_churn), Clock1, [], State).

%% fill_strip_save_batch merges a peer's objects into ours.
fill_strip_save_batch(Objects, RemoteClock, #state{clock = Clock} = State) ->
    Merged = [{PKey, Old, swc_kv:sync(swc_kv:fill(Old, Clock), swc_kv:fill(Object, RemoteClock))}
              || {PKey, Object} <- Objects, Old <- [local_object(PKey, State)]],
    strip_save_batch(Merged, testbed_truth:tag(), Clock, [], State).

strip_save_batch([], _Tag, Clock, Ops, #state{group = Group} = State) ->
    ok = db_write(Group, Ops),
    State#state{clock = Clock};
strip_save_batch([{PKey, Old, New} | Rest], Tag, Clock, Ops, State) ->
    vmq_swc_dkm:replace(State#state.dkm, PKey, Old, New),
    event(PKey, swc_kv:value(Old), swc_kv:value(New), Tag, State),
    Put = {put, object_key(PKey), {PKey, swc_kv:strip(New, Clock)}},
    strip_save_batch(Rest, Tag, Clock, [Put | Ops], State).

db_write(Group, Ops) -> vmq_swc_db:write(Group, lists:reverse(Ops)).

local_object(PKey, #state{group = Group}) ->
    case vmq_swc_db:get(Group, object_key(PKey)) of
        {ok, {_, Object}} -> Object;
        not_found -> swc_kv:new()
    end.

object_key(PKey) -> <<"o", (term_to_binary(PKey))/binary>>.

event(_, Same, Same, _, _) -> ok;
event({Prefix, _} = PKey, Old, New, Tag, #state{subscribers = Subscribers}) ->
    [Pid ! {updated, PKey, Old, New, Tag} || {P, Pid} <- Subscribers, P =:= Prefix],
    ok.

gen_cast(Peer, #state{group = Group}, Objects) ->
    vmq_swc_edist_srv:cast(Group, Peer, rpc_broadcast, [Group, node(), Objects]).

%% ---- anti-entropy ----

missing_object(Group, Dkm, Dot) ->
    case vmq_swc_dkm:lookup(Dkm, Dot) of
        {ok, PKey} ->
            case vmq_swc_db:get(Group, object_key(PKey)) of
                {ok, Stored} -> [Stored];
                not_found -> []
            end;
        not_found -> []
    end.

%% sync_clocks takes over what was fetched, of the writers that are members now.
%% Dots of a former incarnation of a node are never taken over: they are missing
%% again at the next exchange, and for ever (the "empty sync").
sync_clocks(#state{clock = Clock} = State, RemoteClock, done) -> swc_node:union(Clock, RemoteClock, members(State));
sync_clocks(#state{clock = Clock} = State, _RemoteClock, {partial, Dots}) ->
    Members = members(State),
    lists:foldl(fun({Id, _} = Dot, C) ->
                    case lists:member(Id, Members) of
                        true -> swc_node:add(C, Dot);
                        false -> C
                    end
                end, Clock, Dots).

members(#state{id = Id, peers = Peers}) -> [Id | [{Peer, 1} || Peer <- Peers]].

update_watermark_after_sync(Watermark, Node, Clock, Peer, RemoteClock, RemoteWatermark) ->
    Merged = maps:fold(fun(N, Seen, Acc) ->
                           Acc#{N => maps:fold(fun(Id, C, S) -> S#{Id => max(C, maps:get(Id, S, 0))} end, maps:get(N, Acc, #{}), Seen)}
                       end, Watermark, RemoteWatermark),
    Merged#{Node => swc_node:bases(Clock), Peer => swc_node:bases(RemoteClock)}.

%% incremental_gc forgets dots that all nodes have, and tombstones with them.
incremental_gc(#state{group = Group, dkm = Dkm, watermark = Watermark, peers = Peers} = State) ->
    Nodes = [node() | Peers],
    Stable = maps:from_list([{Id, lists:min([maps:get(Id, maps:get(N, Watermark, #{}), 0) || N <- Nodes])} || Id <- members(State)]),
    Keys = vmq_swc_dkm:prune(Dkm, Stable, ?GC_LIMIT),
    vmq_swc_db:write(Group, [{delete, object_key(PKey)} || PKey <- Keys]),
    State.

%% ---- what the load generator prepares ----

%% stale: objects of this node's former incarnation, known here alone.
seed_objects(stale, 0, #state{dkm = Dkm, clock = Clock} = State) ->
    Former = {node(), 0},
    vmq_swc_dkm:forget(Dkm, Former),
    State#state{clock = maps:remove(Former, Clock)};
seed_objects(stale, Count, #state{clock = Clock} = State) ->
    Former = {node(), 0},
    store_seeds([{{{vmq, retain}, {Former, I}}, {Former, I}, {seed_value(I), 0}} || I <- lists:seq(1, Count)],
                State#state{clock = swc_node:from_base(Clock, {Former, Count})});
%% missed: subscribers written here that no peer was told of.
seed_objects(missed, Count, #state{group = Group, id = Id, clock = Clock} = State) ->
    Base = swc_node:base(Clock, Id),
    store_seeds([{{{vmq, subscriber}, {"", iolist_to_binary(io_lib:format("seed-~s-~b", [Group, I]))}}, {Id, I},
                  [{node(), false, [{[<<"seed">>, integer_to_binary(I rem 100)], 1}]}]} || I <- lists:seq(Base + 1, Base + Count)],
                State#state{clock = swc_node:from_base(Clock, {Id, Base + Count})}).

seed_value(I) -> binary:copy(<<I:64>>, 20).

store_seeds([], State) -> State;
store_seeds(Seeds, #state{group = Group, dkm = Dkm} = State) ->
    {Now, Later} = lists:split(min(?SCAN, length(Seeds)), Seeds),
    Objects = [{PKey, swc_kv:write(swc_kv:new(), Dot, Value)} || {PKey, Dot, Value} <- Now],
    [vmq_swc_dkm:replace(Dkm, PKey, swc_kv:new(), Object) || {PKey, Object} <- Objects],
    ok = vmq_swc_db:write(Group, [{put, object_key(PKey), {PKey, Object}} || {PKey, Object} <- Objects]),
    store_seeds(Later, State).
