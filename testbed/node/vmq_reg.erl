%% Registration of clients, subscriptions, and routing of messages.
-module(vmq_reg).
-export([register_subscriber/5, register_subscriber_/6, subscribe/3, delete_subscriptions/1]).
-export([publish/4, route_remote_msg/3, get_queue_pid/1, get_queue_pid/2]).

-define(SYNC_TIMEOUT, 30000).
-define(PAUSE, 100).

%% register_subscriber gives the client a queue on this node, serialised per
%% client id over the whole cluster.
register_subscriber(SessionPid, SubscriberId, Clean, QueueOpts, Retries) ->
    Tag = testbed_truth:tag(),
    vmq_reg_sync:sync(SubscriberId,
                      fun() -> register_subscriber_(SessionPid, SubscriberId, Clean, QueueOpts, Tag, Retries) end,
                      ?SYNC_TIMEOUT).

register_subscriber_(_, _, _, _, _, 0) -> {error, register_subscriber_retry_exhausted};
register_subscriber_(SessionPid, SubscriberId, Clean, QueueOpts, Tag, Retries) ->
    {ok, Present, Queue} = vmq_queue_sup_sup:start_queue(SubscriberId, Clean),
    case Present andalso Clean andalso vmq_queue:cleanup(Queue, session_taken_over) of
        ok -> % the queue of the former session is gone: take a new one
            register_subscriber_(SessionPid, SubscriberId, Clean, QueueOpts, Tag, Retries - 1);
        {error, _} ->
            timer:sleep(?PAUSE),
            register_subscriber_(SessionPid, SubscriberId, Clean, QueueOpts, Tag, Retries - 1);
        false ->
            Subs = vmq_subscriber_db:read(SubscriberId),
            Others = [Node || {Node, _, _} <- Subs, Node =/= node()],
            Topics = case Clean of true -> []; false -> lists:usort(lists:append([T || {_, _, T} <- Subs])) end,
            ok = vmq_subscriber_db:store(SubscriberId, [{node(), Clean, Topics}]),
            ok = block_until(SubscriberId, Others, Tag, Retries),
            case vmq_queue:add_session(Queue, SessionPid, QueueOpts) of
                ok -> {ok, Queue};
                {error, _} ->
                    timer:sleep(?PAUSE),
                    register_subscriber_(SessionPid, SubscriberId, Clean, QueueOpts, Tag, Retries - 1)
            end
    end.

%% block_until waits till the other nodes have given the client's queue up. A
%% node that does not in time is left to clean up on its own.
block_until(_, [], _, _) -> ok;
block_until(_, _, _, 0) -> ok;
block_until(SubscriberId, [Node | Nodes], Tag, Retries) ->
    testbed_truth:sent(rpc, {any, Node}, {?MODULE, get_queue_pid, [SubscriberId, Tag]}),
    case rpc:call(Node, ?MODULE, get_queue_pid, [SubscriberId, Tag]) of
        Pid when is_pid(Pid) ->
            timer:sleep(?PAUSE),
            block_until(SubscriberId, [Node | Nodes], Tag, Retries - 1);
        _ -> block_until(SubscriberId, Nodes, Tag, Retries)
    end.

get_queue_pid(SubscriberId) -> vmq_queue_sup_sup:get_queue_pid(SubscriberId).

%% The same, asked by a peer.
get_queue_pid(SubscriberId, Tag) ->
    testbed_truth:be('rpc:call/4', client_churn),
    testbed_truth:serve(get_queue_pid, Tag),
    Answer = get_queue_pid(SubscriberId),
    [testbed_truth:sent(result, {any, Peer}, Answer) || Peer <- nodes()], % there is one, which asks
    Answer.

subscribe(SubscriberId, Clean, Topics) ->
    Old = lists:append([T || {Node, _, T} <- vmq_subscriber_db:read(SubscriberId), Node =:= node()]),
    New = lists:ukeymerge(1, lists:ukeysort(1, Topics), lists:ukeysort(1, Old)),
    vmq_subscriber_db:store(SubscriberId, [{node(), Clean, New}]).

%% delete_subscriptions forgets a client that is gone, if it is still this node's.
delete_subscriptions(SubscriberId) ->
    case vmq_subscriber_db:read(SubscriberId) of
        [{Node, _, _}] when Node =:= node() -> vmq_subscriber_db:delete(SubscriberId);
        _ -> ok
    end.

%% publish routes a message to local queues and to the nodes that have others.
publish(Words, ClientId, Message, Workload) ->
    vmq_reg_trie:fold(ClientId, Words, fun(Target, Acc) -> route_to(Target, Words, Message, Workload, Acc) end, []),
    ok.

route_to({Node, SubscriberId, QoS}, _, {Topic, PubQoS, Payload}, Workload, Sent) when Node =:= node() ->
    case get_queue_pid(SubscriberId) of
        not_found -> ok;
        Queue -> vmq_queue:enqueue(Queue, {Topic, min(QoS, PubQoS), Payload}, Workload)
    end,
    Sent;
route_to({Node, _, _}, Words, Message, Workload, Sent) ->
    case lists:member(Node, Sent) of
        true -> Sent;
        false -> vmq_cluster:publish(Node, {Words, Message, Workload}), [Node | Sent]
    end.

%% route_remote_msg hands a peer's message to the local queues.
route_remote_msg(Words, {Topic, PubQoS, Payload}, Workload) ->
    vmq_reg_trie:fold(none, Words,
                      fun({Node, SubscriberId, QoS}, Acc) when Node =:= node() ->
                              case get_queue_pid(SubscriberId) of
                                  not_found -> Acc;
                                  Queue -> vmq_queue:enqueue(Queue, {Topic, min(QoS, PubQoS), Payload}, Workload), Acc + 1
                              end;
                         (_, Acc) -> Acc
                      end, 0).
