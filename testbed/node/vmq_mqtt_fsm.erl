%% MQTT 3.1 and 3.1.1 inside the session process: the CONNECT's checks and
%% registration, then publish, deliver, acknowledge, subscribe.
-module(vmq_mqtt_fsm).
-include("testbed.hrl").
-export([init/3, data_in/2, msg_in/2, teardown/2, connected/2]).

-define(REGISTER_RETRIES, 20).

-record(state, {
    client_id, subscriber_id, user, clean = true, keep_alive = 0, last = 0,
    queue = none, next_id = 1, waiting = #{}, buffer = <<>>
}).

%% init handles the CONNECT and what came with it.
init(_Opts, Frame, Rest) ->
    vmq_metrics:incr(mqtt_connect_received, 1),
    case check_connect(Frame, #state{}) of
        {ok, State} ->
            vmq_metrics:incr(mqtt_connack_sent, 1),
            Connack = vmq_parser:serialise({connack, 0}),
            case data_in(Rest, State) of
                {ok, State1, Out} -> {ok, State1, [Connack, Out]};
                {stop, Reason, State1, Out} -> {stop, Reason, State1, [Connack, Out]}
            end;
        {refused, Code, State} ->
            {stop, refused, State, vmq_parser:serialise({connack, Code})};
        {error, Reason, State} ->
            {stop, Reason, State, []}
    end.

check_connect(#{protocol := Protocol, version := Version} = Frame, State) ->
    case {Protocol, Version} of
        {<<"MQTT">>, 4} -> check_client_id(Frame, State);
        {<<"MQIsdp">>, 3} -> check_client_id(Frame, State);
        _ -> {refused, 1, State}
    end.

check_client_id(#{client_id := <<>>, clean := false}, State) -> {refused, 2, State};
check_client_id(#{client_id := <<>>} = Frame, State) ->
    check_client_id(Frame#{client_id => base64:encode(crypto:strong_rand_bytes(12))}, State);
check_client_id(#{client_id := ClientId} = Frame, State) ->
    check_user(Frame, State#state{client_id = ClientId, subscriber_id = {"", ClientId}}).

check_user(#{user := User, password := Password} = Frame, State) ->
    case auth_on_register(User, Password) of
        ok -> register_subscriber(Frame, State#state{user = User});
        error -> {refused, 4, State}
    end.

%% Any password that hashes at all is good.
auth_on_register(User, Password) when is_binary(User), is_binary(Password) ->
    Digest = lists:foldl(fun(_, D) -> crypto:hash(sha256, D) end, <<User/binary, Password/binary>>, lists:seq(1, 20)),
    case byte_size(Digest) of 32 -> ok; _ -> error end;
auth_on_register(undefined, undefined) -> ok;
auth_on_register(_, _) -> error.

register_subscriber(#{clean := Clean, keep_alive := KeepAlive}, #state{subscriber_id = Id, user = User} = State) ->
    case vmq_reg:register_subscriber(self(), Id, Clean, #{clean => Clean}, ?REGISTER_RETRIES) of
        {ok, Queue} ->
            KeepAlive > 0 andalso erlang:send_after(KeepAlive * 1500, self(), check_keepalive),
            {ok, State#state{queue = Queue, clean = Clean, keep_alive = KeepAlive, last = erlang:monotonic_time(millisecond)}};
        {error, Reason} ->
            ?WARNING("can't register client ~p with username ~p due to ~p", [Id, User, Reason]),
            vmq_metrics:incr(register_failures, 1),
            {error, Reason, State}
    end.

%% ---- packets ----

data_in(Data, #state{buffer = Buffer} = State) ->
    parse(<<Buffer/binary, Data/binary>>, State#state{last = erlang:monotonic_time(millisecond)}, []).

parse(Bytes, State, Out) ->
    case vmq_parser:parse(Bytes) of
        more -> {ok, State#state{buffer = Bytes}, Out};
        {error, Reason} -> {stop, Reason, State, Out};
        {Packet, Rest} ->
            case connected(Packet, State) of
                {ok, State1, More} -> parse(Rest, State1, [Out | More]);
                {stop, Reason, State1, More} -> {stop, Reason, State1, [Out | More]}
            end
    end.

%% connected handles one packet or message of an established session.
connected({publish, Topic, QoS, Id, Payload}, #state{client_id = ClientId} = State) ->
    testbed_truth:work(message_routing, publish),
    vmq_metrics:incr(mqtt_publish_received, 1),
    vmq_reg:publish(binary:split(Topic, <<"/">>, [global]), ClientId, {Topic, QoS, Payload}, message_routing),
    {ok, State, case QoS of 0 -> []; 1 -> [vmq_parser:serialise({puback, Id})] end};
connected({puback, Id}, #state{waiting = Waiting} = State) ->
    testbed_truth:work(message_routing, puback),
    {ok, State#state{waiting = maps:remove(Id, Waiting)}, []};
connected({mail, Queue, new_data}, #state{queue = Queue} = State) ->
    testbed_truth:work(message_routing, mail),
    vmq_queue:active(Queue, self()),
    {ok, State, []};
connected({mail, Queue, Messages}, #state{queue = Queue} = State) ->
    testbed_truth:work(message_routing, mail),
    {Out, State1} = lists:mapfoldl(fun deliver/2, State, Messages),
    vmq_metrics:incr(mqtt_publish_sent, length(Messages)),
    vmq_queue:notify(Queue, self()),
    {ok, State1, Out};
connected({subscribe, Id, Topics}, #state{subscriber_id = SubscriberId, clean = Clean} = State) ->
    testbed_truth:work(client_churn, subscribe),
    case vmq_reg:subscribe(SubscriberId, Clean, [{binary:split(T, <<"/">>, [global]), QoS} || {T, QoS} <- Topics]) of
        ok -> {ok, State, [vmq_parser:serialise({suback, Id, [QoS || {_, QoS} <- Topics]})]};
        {error, Reason} -> {stop, Reason, State, []}
    end;
connected(pingreq, State) ->
    testbed_truth:work(message_routing, pingreq),
    {ok, State, [vmq_parser:serialise(pingresp)]};
connected(disconnect, State) ->
    testbed_truth:work(client_churn, disconnect),
    {stop, disconnected, State, []};
connected({disconnect, Reason}, State) ->
    testbed_truth:work(client_churn, take_over),
    {stop, Reason, State, []};
connected(check_keepalive, #state{keep_alive = KeepAlive, last = Last, subscriber_id = Id} = State) ->
    testbed_truth:work(housekeeping, check_keepalive),
    case erlang:monotonic_time(millisecond) - Last > KeepAlive * 1500 of
        true ->
            ?WARNING("client ~p with username ~p stopped due to keepalive expired", [Id, State#state.user]),
            {stop, keepalive_expired, State, []};
        false ->
            erlang:send_after(KeepAlive * 1500, self(), check_keepalive),
            {ok, State, []}
    end;
connected({connect, _}, State) ->
    testbed_truth:work(client_churn, connect),
    {stop, protocol_error, State, []};
connected(_, State) ->
    {ok, State, []}.

msg_in(Message, State) -> connected(Message, State).

deliver({Topic, 0, Payload}, State) ->
    {vmq_parser:serialise({publish, Topic, 0, none, Payload}), State};
deliver({Topic, 1, Payload}, #state{next_id = Id, waiting = Waiting} = State) ->
    Next = case Id of 65535 -> 1; _ -> Id + 1 end,
    {vmq_parser:serialise({publish, Topic, 1, Id, Payload}), State#state{next_id = Next, waiting = Waiting#{Id => Topic}}}.

%% teardown ends the session; the queue learns of it through its monitor.
teardown(Reason, State) -> terminate(Reason, State).

terminate(Reason, #state{subscriber_id = Id, queue = Queue}) when is_pid(Queue) ->
    lists:member(Reason, [malformed, too_large, protocol_error]) andalso
        ?WARNING("client ~p session stopped abnormally due to '~p'", [Id, Reason]),
    ok;
terminate(_, _) -> ok.
