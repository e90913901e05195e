%% Publishers and subscribers that are connected before the load starts. Each
%% message has one subscriber; half of them go to the other node. QoS 0 and 1 in turn.
-module(load_publish).
-behaviour(load).
-export([prepare/2, start/1, stop/1]).

-define(PAIRS, 8).
-define(PAYLOAD, 200).    % bytes
-define(PATIENCE, 3000).  % milliseconds to wait at the end for messages on their way
-define(SETUP, 10000).

-record(publish, {rate, counters, publishers, subscribers, pacer = none}).

prepare(#{nodes := [A, B], tls := Tls}, Rate) ->
    Counters = counters:new(2, []), % delivered, acknowledged
    Pairs = lists:seq(0, ?PAIRS - 1),
    Home = fun(I) -> case I rem 2 of 0 -> A; 1 -> B end end,
    Subscribers = [client(sub, I, Home(I div 2), Tls, [{filter(I), 1}], Counters) || I <- Pairs],
    Publishers = [client(pub, I, Home(I), Tls, [], Counters) || I <- Pairs],
    #publish{rate = Rate, counters = Counters, publishers = list_to_tuple(Publishers), subscribers = Subscribers}.

%% Every other subscription has a wildcard.
filter(I) when I rem 2 =:= 0 -> topic(I);
filter(I) -> iolist_to_binary(["load/", integer_to_list(I), "/+"]).

topic(I) -> iolist_to_binary(["load/", integer_to_list(I), "/value"]).

start(#publish{rate = Rate, publishers = Publishers} = State) ->
    Payload = binary:copy(<<"p">>, ?PAYLOAD),
    State#publish{pacer = load_pace:start(Rate, fun(N) ->
                      I = N rem ?PAIRS,
                      element(I + 1, Publishers) ! {publish, topic(I), (N div ?PAIRS) rem 2, Payload}
                  end)}.

stop(#publish{pacer = Pacer, counters = Counters, publishers = Publishers, subscribers = Subscribers}) ->
    Sent = load_pace:stop(Pacer),
    await(Counters, Sent, ?PATIENCE),
    [P ! stop || P <- tuple_to_list(Publishers) ++ Subscribers],
    #{published => Sent, delivered => counters:get(Counters, 1), acknowledged => counters:get(Counters, 2)}.

await(_, _, Left) when Left =< 0 -> timeout;
await(Counters, Count, Left) ->
    case counters:get(Counters, 1) >= Count of
        true -> ok;
        false -> timer:sleep(50), await(Counters, Count, Left - 50)
    end.

%% client starts a connected and subscribed client and returns its process.
client(Role, I, Node, Tls, Topics, Counters) ->
    Parent = self(),
    Pid = spawn_link(fun() ->
              {ok, Client} = load_client:open(Node, {127, 0, 0, 2 + I}, Tls, [binary, {active, false}]),
              ClientId = iolist_to_binary(io_lib:format("~s-~b", [Role, I])),
              Deadline = erlang:monotonic_time(millisecond) + ?SETUP,
              ok = load_client:send(Client, [{connect, #{client_id => ClientId, clean => true, user => <<"user">>, password => <<"secret">>}}]),
              {ok, {connack, 0}, Client1} = load_client:receive_packet(Client, Deadline),
              Topics =/= [] andalso begin
                  ok = load_client:send(Client1, [{subscribe, 1, Topics}]),
                  {ok, {suback, 1, _}, _} = load_client:receive_packet(Client1, Deadline)
              end,
              ok = load_client:active(Client1),
              Parent ! {self(), ready},
              loop(Client1, 1, <<>>, Counters)
          end),
    receive {Pid, ready} -> Pid after ?SETUP -> exit(client_not_ready) end.

loop(Client, Id, Buffer, Counters) ->
    receive
        {publish, Topic, QoS, Payload} ->
            ok = load_client:send(Client, [{publish, Topic, QoS, Id, Payload}]),
            loop(Client, case Id of 65535 -> 1; _ -> Id + 1 end, Buffer, Counters);
        {Tag, _, Data} when Tag =:= tcp; Tag =:= ssl ->
            loop(Client, Id, packets(<<Buffer/binary, Data/binary>>, Client, Counters), Counters);
        stop ->
            _ = load_client:send(Client, [disconnect]),
            load_client:close(Client);
        Closed ->
            exit({connection_lost, Closed})
    end.

packets(Bytes, Client, Counters) ->
    case vmq_parser:parse(Bytes) of
        more -> Bytes;
        {{publish, _, 0, _, _}, Rest} ->
            counters:add(Counters, 1, 1),
            packets(Rest, Client, Counters);
        {{publish, _, 1, Id, _}, Rest} ->
            counters:add(Counters, 1, 1),
            ok = load_client:send(Client, [{puback, Id}]),
            packets(Rest, Client, Counters);
        {{puback, _}, Rest} ->
            counters:add(Counters, 2, 1),
            packets(Rest, Client, Counters)
    end.
