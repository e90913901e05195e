%% Batches the local writes of one group: whatever arrived while the store was
%% busy with the last batch makes the next one.
-module(vmq_swc_store_batcher).
-export([start_link/1, add/4, init/1]).

-define(MAX_BATCH, 100).

start_link(Group) -> proc_lib:start_link(?MODULE, init, [Group]).

%% add writes one key and returns when its batch is stored.
add(Group, PKey, Value, Tag) ->
    Batcher = whereis(vmq_swc_config:name(store_batcher, Group)),
    Ref = monitor(process, Batcher),
    Batcher ! {write, {self(), Ref}, {PKey, Value, Tag}},
    receive
        {Ref, Result} -> demonitor(Ref, [flush]), Result;
        {'DOWN', Ref, _, _, Reason} -> {error, Reason}
    end.

init(Group) ->
    testbed_truth:be(vmq_swc_store_batcher_metaN, housekeeping),
    register(vmq_swc_config:name(store_batcher, Group), self()),
    proc_lib:init_ack({ok, self()}),
    loop(vmq_swc_config:name(store, Group)).

loop(Store) ->
    receive
        {write, From, {_, _, Tag} = Op} ->
            testbed_truth:serve(write, Tag),
            {Callers, Ops} = collect([From], [Op], 1),
            Result = gen_server:call(Store, {batch, Ops}, infinity),
            [Pid ! {Ref, Result} || {Pid, Ref} <- Callers],
            loop(Store)
    end.

collect(Callers, Ops, ?MAX_BATCH) -> {Callers, lists:reverse(Ops)};
collect(Callers, Ops, N) ->
    receive
        {write, From, Op} -> collect([From | Callers], [Op | Ops], N + 1)
    after 0 -> {Callers, lists:reverse(Ops)}
    end.
