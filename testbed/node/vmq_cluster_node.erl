%% The outgoing half of the cluster link to one node. What has arrived is sent as
%% one "vmq-send" frame.
-module(vmq_cluster_node).
-export([start_link/1, init/1, publish/2, enqueue_async/2, is_connected/1]).

-define(RECONNECT, 500).
-define(MAX_BUFFERED, 500).

start_link(Node) -> {ok, proc_lib:spawn_link(?MODULE, init, [Node])}.

publish(Link, Message) -> Link ! {msg, Message}, ok.
enqueue_async(Link, {Pid, Ref, SubscriberId, Messages}) -> Link ! {enq, Pid, Ref, SubscriberId, Messages}, ok.

%% is_connected asks the link process.
is_connected(Link) ->
    Ref = monitor(process, Link),
    Link ! {is_connected, self(), Ref},
    receive
        {Ref, Answer} -> demonitor(Ref, [flush]), Answer;
        {'DOWN', Ref, _, _, _} -> false
    end.

init(Node) ->
    testbed_truth:be('vmq_cluster_node:init/1', housekeeping),
    disconnected(Node).

disconnected(Node) ->
    case connect(Node) of
        {ok, Socket} -> loop(Node, Socket);
        _ ->
            receive {is_connected, Pid, Ref} -> Pid ! {Ref, false} after ?RECONNECT -> ok end,
            case lists:member(Node, nodes()) of
                true -> disconnected(Node);
                false -> exit(normal)
            end
    end.

connect(Node) ->
    case rpc:call(Node, testbed_node, cluster_port, []) of
        Port when is_integer(Port) ->
            case gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, true}, {nodelay, true}], 5000) of
                {ok, Socket} ->
                    Name = atom_to_binary(node(), utf8),
                    ok = gen_tcp:send(Socket, [<<"vmq-connect">>, <<(byte_size(Name)):32>>, Name]),
                    testbed_truth:port(Socket, cluster_port, message_routing),
                    {ok, Socket};
                Error -> Error
            end;
        Error -> Error
    end.

loop(Node, Socket) ->
    receive
        {is_connected, Pid, Ref} -> Pid ! {Ref, true}, loop(Node, Socket);
        {tcp_closed, Socket} -> disconnected(Node);
        {tcp_error, Socket, _} -> disconnected(Node);
        Message ->
            Frames = buffer([encode(Message)], 1),
            case gen_tcp:send(Socket, [<<"vmq-send">>, <<(iolist_size(Frames)):32>>, Frames]) of
                ok -> loop(Node, Socket);
                {error, _} -> disconnected(Node)
            end
    end.

buffer(Frames, ?MAX_BUFFERED) -> lists:reverse(Frames);
buffer(Frames, N) ->
    receive
        {msg, _} = Message -> buffer([encode(Message) | Frames], N + 1);
        {enq, _, _, _, _} = Message -> buffer([encode(Message) | Frames], N + 1)
    after 0 -> lists:reverse(Frames)
    end.

encode({msg, {_, _, Workload} = Message}) ->
    testbed_truth:work(Workload, msg),
    vmq_metrics:incr(cluster_messages_sent, 1),
    frame(<<"msg">>, term_to_binary(Message));
encode({enq, Pid, Ref, SubscriberId, Messages}) ->
    testbed_truth:work(client_churn, enq),
    frame(<<"enq">>, term_to_binary({Pid, Ref, SubscriberId, Messages})).

frame(Type, Bytes) -> [Type, <<(byte_size(Bytes)):32>>, Bytes].
