%% An MQTT client's socket, plain or TLS.
-module(load_client).
-export([open/4, send/2, receive_packet/2, controlling_process/2, active/1, close/1, local_port/1]).

-record(client, {transport, socket, buffer = <<>>}).

-define(CONNECT_TIMEOUT, 5000).

%% open(Node, Source, Tls, Options) -> {ok, Client} | {error, Reason}. Source is the local address.
open(#{mqtts_port := Port}, Source, true, Options) ->
    wrap(ssl, ssl:connect({127, 0, 0, 1}, Port, [{ip, Source}, {verify, verify_none}, {log_level, error} | Options], ?CONNECT_TIMEOUT));
open(#{mqtt_port := Port}, Source, false, Options) ->
    wrap(gen_tcp, gen_tcp:connect({127, 0, 0, 1}, Port, [{ip, Source}, {nodelay, true} | Options], ?CONNECT_TIMEOUT)).

wrap(Transport, {ok, Socket}) -> {ok, #client{transport = Transport, socket = Socket}};
wrap(_, Error) -> Error.

send(#client{transport = T, socket = S}, Packets) -> T:send(S, [vmq_parser:serialise(P) || P <- Packets]).

%% receive_packet waits until the deadline (monotonic milliseconds) for one packet of a passive socket.
receive_packet(#client{transport = T, socket = S, buffer = Buffer} = Client, Deadline) ->
    case vmq_parser:parse(Buffer) of
        {error, Reason} -> {error, Reason};
        more ->
            case T:recv(S, 0, max(0, Deadline - erlang:monotonic_time(millisecond))) of
                {ok, Data} -> receive_packet(Client#client{buffer = <<Buffer/binary, Data/binary>>}, Deadline);
                Error -> Error
            end;
        {Packet, Rest} -> {ok, Packet, Client#client{buffer = Rest}}
    end.

controlling_process(#client{transport = T, socket = S}, Pid) -> T:controlling_process(S, Pid).

active(#client{transport = gen_tcp, socket = S}) -> inet:setopts(S, [{active, true}]);
active(#client{transport = ssl, socket = S}) -> ssl:setopts(S, [{active, true}]).

close(#client{transport = T, socket = S}) -> T:close(S).

local_port(#client{transport = gen_tcp, socket = S}) -> port_of(inet:sockname(S));
local_port(#client{transport = ssl, socket = S}) -> port_of(ssl:sockname(S)).

port_of({ok, {_, Port}}) -> Port;
port_of(_) -> 0.
