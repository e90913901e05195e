%% Bare connections: opened and closed at once, nothing sent.
-module(load_sockets).
-behaviour(load).
-export([prepare/2, start/1, stop/1]).

-define(PATIENCE, 10000).
-define(RESET, [{linger, {true, 0}}]). % closed by reset, so that no local port stays in TIME_WAIT

-record(sockets, {context, rate, log, pacer = none}).

prepare(Context, Rate) -> #sockets{context = Context, rate = Rate, log = load_log:open(maps:get(connections, Context))}.

start(#sockets{context = #{nodes := Nodes}, rate = Rate, log = Log} = State) ->
    State#sockets{pacer = load_pace:start(Rate, fun(N) -> spawn(fun() -> connection(N, Nodes, Log) end) end)}.

stop(#sockets{pacer = Pacer, log = Log}) ->
    Started = load_pace:stop(Pacer),
    load_log:await(Log, Started, ?PATIENCE),
    (load_log:close(Log))#{started => Started}.

connection(N, Nodes, Log) ->
    Node = lists:nth(N rem length(Nodes) + 1, Nodes),
    load_log:connection(Log, <<"none">>, Node,
        case load_client:open(Node, {127, 0, 0, 2 + N rem 200}, false, [binary, {active, false} | ?RESET]) of
            {ok, Client} ->
                Port = load_client:local_port(Client),
                load_client:close(Client),
                #{port => Port, connect => false, connack => false, closed_by => client};
            {error, _} -> #{port => 0, connect => false, connack => false, closed_by => failed}
        end).
