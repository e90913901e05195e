%% The running cluster as the load generator sees it, through each node's control socket.
-module(testbed_nodes).
-export([cluster/1, call/2, difference/2, settle/1]).

-define(TIMEOUT, 120000).
-define(SETTLE, 20000).
-define(POLL, 200).
-define(QUIET, 3). % polls without change

%% cluster(StateDirectory) -> [Node], each the node's info with its control socket, node 1 first.
cluster(Directory) ->
    [begin
         Path = filename:join([Directory, Name, "control"]),
         {ok, Socket} = gen_tcp:connect({local, Path}, 0, [local, binary, {packet, 4}, {active, false}]),
         (call(#{control => Socket}, info))#{control => Socket}
     end || Name <- ["node1", "node2"]].

%% call asks a node; a failure there is a failure here.
call(#{control := Socket}, Request) ->
    ok = gen_tcp:send(Socket, term_to_binary(Request)),
    {ok, Bytes} = gen_tcp:recv(Socket, 0, ?TIMEOUT),
    case binary_to_term(Bytes) of
        {ok, Answer} -> Answer;
        {error, Reason} -> exit({Request, Reason})
    end.

%% difference of two maps of counts; what is no number stays.
difference(Before, After) ->
    maps:map(fun(Key, Value) when is_integer(Value) -> Value - maps:get(Key, Before);
                (_, Value) -> Value
             end, After).

%% settle waits until nothing is left to do from the last load.
settle(Nodes) -> settle(Nodes, none, 0, ?SETTLE).

settle(_, _, ?QUIET, _) -> ok;
settle(_, _, _, Left) when Left =< 0 -> timeout;
settle(Nodes, Last, Quiet, Left) ->
    Now = [maps:with([socket_close, swc_writes, swc_replicated, ae_objects_synced, mqtt_publish_sent, queue_teardown, log_lines], call(Node, counters))
           || Node <- Nodes],
    timer:sleep(?POLL),
    settle(Nodes, Now, case Now of Last -> Quiet + 1; _ -> 0 end, Left - ?POLL).
