%% A connection storm: the same client ids connect at one node, then at the
%% other, without waiting for the CONNACK, and give the connection up soon after.
-module(load_churn).
-behaviour(load).
-export([prepare/2, start/1, stop/1]).

-define(INTERVAL, 0.06).  % seconds between two connects of one client id, while it storms
-define(BURST, 8).        % connects until another client's turn has come
-define(CLIENTS, 20).     % clients for each that storms at a time
-define(HOLD, 200).       % milliseconds: a connection is given up after 1 to HOLD
-define(PATIENCE, 10000). % milliseconds to wait at the end for connections still open

-record(churn, {context, rate, at_once, log, pacer = none}).

prepare(Context, Rate) ->
    #churn{context = Context, rate = Rate, at_once = max(1, round(Rate * ?INTERVAL)), log = load_log:open(maps:get(connections, Context))}.

start(#churn{context = #{nodes := Nodes, tls := Tls}, rate = Rate, at_once = AtOnce, log = Log} = Churn) ->
    Churn#churn{pacer = load_pace:start(Rate, fun(N) -> spawn(fun() -> connection(N, AtOnce, Nodes, Tls, Log) end) end)}.

stop(#churn{pacer = Pacer, at_once = AtOnce, log = Log}) ->
    Started = load_pace:stop(Pacer),
    load_log:await(Log, Started, ?PATIENCE),
    (load_log:close(Log))#{started => Started, client_ids => min(Started, AtOnce * ?CLIENTS)}.

connection(N, AtOnce, Nodes, Tls, Log) ->
    Block = N div (AtOnce * ?BURST),
    Index = (Block * AtOnce + N rem AtOnce) rem (AtOnce * ?CLIENTS),
    Round = (N rem (AtOnce * ?BURST)) div AtOnce,
    Node = lists:nth((Index + Round) rem length(Nodes) + 1, Nodes),
    ClientId = iolist_to_binary(["churn-", integer_to_list(Index)]),
    %% Even clients have clean sessions, odd ones change between clean and persistent.
    Clean = Index rem 2 =:= 0 orelse Round rem 4 < 2,
    Source = {127, 0, 0, 2 + Index rem 200},
    Deadline = erlang:monotonic_time(millisecond) + rand:uniform(?HOLD),
    load_log:connection(Log, ClientId, Node,
        case load_client:open(Node, Source, Tls, [binary, {active, false}]) of
            {ok, Client} ->
                Port = load_client:local_port(Client),
                Sent = load_client:send(Client, [{connect, #{client_id => ClientId, clean => Clean, user => <<"user">>, password => <<"secret">>}},
                                                 {subscribe, 1, [{<<"churn/", ClientId/binary>>, 1}]}]),
                {Connack, By} = hold(Client, Deadline, false),
                load_client:close(Client),
                #{port => Port, connect => Sent =:= ok, connack => Connack, closed_by => By};
            {error, _} -> #{port => 0, connect => false, connack => false, closed_by => failed}
        end).

%% hold reads what comes until the client has had enough or the server closes.
hold(Client, Deadline, Connack) ->
    case load_client:receive_packet(Client, Deadline) of
        {ok, {connack, 0}, Client1} -> hold(Client1, Deadline, true);
        {ok, _, Client1} -> hold(Client1, Deadline, Connack);
        {error, timeout} -> {Connack, client};
        {error, _} -> {Connack, server}
    end.
