%% The incoming half of a cluster link: routes a peer's publishes and takes in
%% migrated queues.
-module(vmq_cluster_com).
-export([start_link/4, init/4]).

start_link(Ref, ConnsSup, Transport, Opts) ->
    {ok, proc_lib:spawn_link(?MODULE, init, [Ref, ConnsSup, Transport, Opts])}.

init(Ref, _ConnsSup, _Transport, _Opts) ->
    testbed_truth:be('vmq_cluster_com:init/4', housekeeping),
    receive {shoot, Ref, Socket} -> ok end,
    testbed_truth:port(Socket, cluster_port, message_routing),
    inet:setopts(Socket, [{active, once}]),
    loop(Socket, <<>>).

loop(Socket, Buffer) ->
    receive
        {tcp, Socket, Data} ->
            Rest = frames(<<Buffer/binary, Data/binary>>),
            inet:setopts(Socket, [{active, once}]),
            loop(Socket, Rest);
        {tcp_closed, Socket} -> ok;
        {tcp_error, Socket, _} -> ok
    end.

frames(<<"vmq-connect", L:32, _Node:L/binary, Rest/binary>>) -> frames(Rest);
frames(<<"vmq-send", L:32, Messages:L/binary, Rest/binary>>) -> process(Messages), frames(Rest);
frames(Rest) -> Rest.

process(<<"msg", L:32, Bytes:L/binary, Rest/binary>>) ->
    testbed_truth:work(message_routing, msg),
    {Words, Message, Workload} = binary_to_term(Bytes),
    testbed_truth:work(Workload, msg),
    vmq_reg:route_remote_msg(Words, Message, Workload),
    process(Rest);
process(<<"enq", L:32, Bytes:L/binary, Rest/binary>>) ->
    testbed_truth:work(client_churn, enq),
    {Pid, Ref, SubscriberId, Messages} = binary_to_term(Bytes),
    spawn(fun() ->
              testbed_truth:be('vmq_cluster_com:-process/1-fun-0-/0', client_churn),
              Answer = {Ref, enqueue_many(SubscriberId, Messages)},
              testbed_truth:sent(send, Pid, Answer),
              Pid ! Answer
          end),
    process(Rest);
process(<<>>) -> ok.

%% enqueue_many puts a migrated queue's messages into the client's queue here, if there is one.
enqueue_many(SubscriberId, Messages) ->
    case vmq_reg:get_queue_pid(SubscriberId) of
        not_found -> {error, not_found};
        Queue -> vmq_queue:enqueue_many(Queue, Messages)
    end.
