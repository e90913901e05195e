%% Well-behaved clients: each has an id of its own, waits for its CONNACK,
%% subscribes, disconnects in order, and backs off exponentially if refused.
-module(load_connects).
-behaviour(load).
-export([prepare/2, start/1, stop/1]).

-define(TIMEOUT, 10000).
-define(RETRIES, 5).
-define(BACK_OFF, 200). % milliseconds, doubled at each retry

-record(connects, {context, rate, log, pacer = none}).

prepare(Context, Rate) -> #connects{context = Context, rate = Rate, log = load_log:open(maps:get(connections, Context))}.

start(#connects{context = #{nodes := Nodes, tls := Tls}, rate = Rate, log = Log} = State) ->
    State#connects{pacer = load_pace:start(Rate, fun(N) -> spawn(fun() -> client(N, Nodes, Tls, Log, ?RETRIES) end) end)}.

stop(#connects{pacer = Pacer, log = Log}) ->
    Started = load_pace:stop(Pacer),
    load_log:await(Log, Started, ?TIMEOUT),
    (load_log:close(Log))#{started => Started}.

client(N, Nodes, Tls, Log, Retries) ->
    Node = lists:nth(N rem length(Nodes) + 1, Nodes),
    ClientId = iolist_to_binary(["calm-", integer_to_list(N)]),
    Facts = case load_client:open(Node, {127, 0, 0, 2 + N rem 200}, Tls, [binary, {active, false}]) of
                {ok, Client} -> session(Client, ClientId);
                {error, _} -> #{port => 0, connect => false, connack => false, closed_by => failed}
            end,
    load_log:connection(Log, ClientId, Node, Facts),
    case Facts of
        #{connack := false} when Retries > 0 ->
            timer:sleep(?BACK_OFF bsl (?RETRIES - Retries)),
            client(N, Nodes, Tls, Log, Retries - 1);
        _ -> ok
    end.

session(Client, ClientId) ->
    Port = load_client:local_port(Client),
    Deadline = erlang:monotonic_time(millisecond) + ?TIMEOUT,
    ok = load_client:send(Client, [{connect, #{client_id => ClientId, clean => true, user => <<"user">>, password => <<"secret">>}}]),
    case load_client:receive_packet(Client, Deadline) of
        {ok, {connack, 0}, Client1} ->
            ok = load_client:send(Client1, [{subscribe, 1, [{<<"calm/", ClientId/binary>>, 0}]}]),
            _ = load_client:receive_packet(Client1, Deadline),
            _ = load_client:send(Client1, [disconnect]),
            load_client:close(Client1),
            #{port => Port, connect => true, connack => true, closed_by => client};
        _ ->
            load_client:close(Client),
            #{port => Port, connect => true, connack => false, closed_by => server}
    end.
