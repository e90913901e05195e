%% Starts queues and notices their end. There are several, each for a part of the
%% client ids.
-module(vmq_queue_sup).
-export([start_link/3, start_queue/3, init/5]).

start_link(Name, Index, Table) -> proc_lib:start_link(?MODULE, init, [self(), Name, Index, Table, []]).

%% start_queue(Sup, SubscriberId, Clean) -> {ok, WasThere, Queue}
start_queue(Sup, SubscriberId, Clean) ->
    Ref = monitor(process, Sup),
    Sup ! {start_queue, {self(), Ref}, SubscriberId, Clean, testbed_truth:tag()},
    receive
        {Ref, Reply} -> demonitor(Ref, [flush]), Reply;
        {'DOWN', Ref, _, _, Reason} -> exit(Reason)
    end.

init(Parent, Name, _Index, Table, _Opts) ->
    testbed_truth:be(vmq_queue_sup_N, client_churn),
    process_flag(trap_exit, true),
    register(Name, self()),
    proc_lib:init_ack({ok, self()}),
    loop(Parent, Table).

loop(Parent, Table) ->
    receive
        {start_queue, {Pid, Ref}, SubscriberId, Clean, Tag} ->
            testbed_truth:serve(start_queue, Tag),
            Pid ! {Ref, start(SubscriberId, Clean, Table)},
            loop(Parent, Table);
        {'EXIT', Parent, Reason} ->
            exit(Reason);
        {'EXIT', Queue, _} ->
            testbed_truth:work(client_churn, 'EXIT'),
            ets:match_delete(Table, {'_', Queue}),
            loop(Parent, Table)
    end.

start(SubscriberId, Clean, Table) ->
    case ets:lookup(Table, SubscriberId) of
        [{_, Queue}] -> {ok, true, Queue};
        [] ->
            {ok, Queue} = vmq_queue:start_link(SubscriberId, Clean),
            ets:insert(Table, {SubscriberId, Queue}),
            {ok, false, Queue}
    end.
