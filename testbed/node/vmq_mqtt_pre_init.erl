%% A session before its first packet: waits for the CONNECT and picks the
%% protocol's state machine.
-module(vmq_mqtt_pre_init).
-export([init/1, data_in/2, msg_in/2, teardown/2]).

-define(CONNECT_TIMEOUT, 30000).

init(Opts) ->
    Timer = erlang:send_after(?CONNECT_TIMEOUT, self(), close_timeout),
    {Opts, Timer, <<>>}.

data_in(Data, {Opts, Timer, Buffer}) ->
    testbed_truth:work(client_churn, connect),
    case vmq_parser:parse(<<Buffer/binary, Data/binary>>) of
        more -> {ok, {Opts, Timer, <<Buffer/binary, Data/binary>>}, []};
        {{connect, Frame}, Rest} ->
            erlang:cancel_timer(Timer),
            connect(vmq_mqtt_fsm:init(Opts, Frame, Rest));
        _ -> {stop, protocol_error, {Opts, Timer, <<>>}, []}
    end.

connect({ok, State, Out}) -> {switch, vmq_mqtt_fsm, State, Out};
connect({stop, _, _, _} = Stop) -> Stop.

msg_in(close_timeout, State) -> {stop, connect_timeout, State, []};
msg_in(_, State) -> {ok, State, []}.

teardown(_Reason, _State) -> ok.
