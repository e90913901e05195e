%% An MQTT session: one process per socket. The parser and the protocol's state
%% machines are modules that run inside it.
-module(vmq_ranch).
-export([start_link/4, init/4, loop/1, loop_/1]).

-record(session, {socket, transport, fsm = vmq_mqtt_pre_init, state}).

start_link(Ref, ConnsSup, Transport, Opts) ->
    {ok, proc_lib:spawn_link(?MODULE, init, [Ref, ConnsSup, Transport, Opts])}.

init(Ref, _ConnsSup, Transport, Opts) ->
    testbed_truth:be('vmq_ranch:init/4', client_churn),
    receive {shoot, Ref, Accepted} -> ok end,
    testbed_truth:port(Accepted, mqtt_port, client_churn),
    vmq_metrics:incr(socket_open, 1),
    case handshake(Transport, Accepted, Opts) of
        {ok, Socket} ->
            loop(#session{socket = Socket, transport = Transport, state = vmq_mqtt_pre_init:init(Opts)});
        {error, _} ->
            testbed_truth:port_closed(Accepted),
            vmq_metrics:incr(socket_close, 1)
    end.

handshake(tcp, Socket, _) -> {ok, Socket};
handshake(tls, Socket, #{tls := TlsOptions}) -> ssl:handshake(Socket, TlsOptions, 10000).

loop(#session{} = Session) ->
    active(Session),
    loop_(Session).

loop_(#session{socket = Socket} = Session) ->
    receive
        {tcp, Socket, Data} -> data(Data, Session);
        {ssl, Socket, Data} -> data(Data, Session);
        {tcp_closed, Socket} -> teardown(Session, tcp_closed);
        {ssl_closed, Socket} -> teardown(Session, tcp_closed);
        {tcp_error, Socket, _} -> teardown(Session, tcp_closed);
        {ssl_error, Socket, _} -> teardown(Session, tcp_closed);
        Message -> result(info(Message, Session), Session)
    end.

data(Data, #session{fsm = Fsm, state = State} = Session) ->
    result(Fsm:data_in(Data, State), Session).

info(Message, #session{fsm = Fsm, state = State}) -> Fsm:msg_in(Message, State).

result({ok, State, Out}, Session) ->
    send(Out, Session),
    active(Session),
    loop_(Session#session{state = State});
result({switch, Fsm, State, Out}, Session) ->
    testbed_truth:port(Session#session.socket, mqtt_port, message_routing), % from now on its input is messages
    send(Out, Session),
    active(Session),
    loop_(Session#session{fsm = Fsm, state = State});
result({stop, Reason, State, Out}, Session) ->
    send(Out, Session),
    teardown(Session#session{state = State}, Reason).

teardown(#session{fsm = Fsm, state = State} = Session, Reason) ->
    testbed_truth:work(client_churn, terminate),
    Fsm:teardown(Reason, State),
    close(Session),
    testbed_truth:port_closed(Session#session.socket),
    vmq_metrics:incr(socket_close, 1).

active(#session{transport = tcp, socket = Socket}) -> inet:setopts(Socket, [{active, once}]);
active(#session{transport = tls, socket = Socket}) -> ssl:setopts(Socket, [{active, once}]).

send([], _) -> ok;
send(Out, #session{transport = tcp, socket = Socket}) -> gen_tcp:send(Socket, Out);
send(Out, #session{transport = tls, socket = Socket}) -> ssl:send(Socket, Out).

close(#session{transport = tcp, socket = Socket}) -> gen_tcp:close(Socket);
close(#session{transport = tls, socket = Socket}) -> ssl:close(Socket).
