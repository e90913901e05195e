%% MQTT 3.1 and 3.1.1 packets, both directions. parse/1 takes bytes, serialise/1
%% gives an iolist.
-module(vmq_parser).
-export([parse/1, serialise/1]).

-define(MAX_PACKET, 1048576).

%% parse(Bytes) -> {Packet, Rest} | more | {error, Reason}
parse(<<Type:4, Flags:4, Rest/binary>>) ->
    case length_field(Rest, 0, 0) of
        {Length, _} when Length > ?MAX_PACKET -> {error, too_large};
        {Length, Body} when byte_size(Body) >= Length ->
            <<Packet:Length/binary, More/binary>> = Body,
            try {packet(Type, Flags, Packet), More}
            catch error:_ -> {error, malformed}
            end;
        {_, _} -> more;
        Other -> Other
    end;
parse(_) -> more.

length_field(_, 4, _) -> {error, malformed};
length_field(<<1:1, Bits:7, Rest/binary>>, N, Acc) -> length_field(Rest, N + 1, Acc + (Bits bsl (7 * N)));
length_field(<<0:1, Bits:7, Rest/binary>>, N, Acc) -> {Acc + (Bits bsl (7 * N)), Rest};
length_field(<<>>, _, _) -> more.

packet(1, _, <<L:16, Protocol:L/binary, Version:8, HasUser:1, HasPassword:1, _:2, _:1, Will:1, Clean:1, _:1, KeepAlive:16, Rest/binary>>) ->
    <<CL:16, ClientId:CL/binary, Rest1/binary>> = Rest,
    {_WillTopic, Rest2} = field(Will, Rest1),
    {_WillMessage, Rest3} = field(Will, Rest2),
    {User, Rest4} = field(HasUser, Rest3),
    {Password, <<>>} = field(HasPassword, Rest4),
    {connect, #{protocol => Protocol, version => Version, client_id => ClientId, clean => Clean =:= 1, keep_alive => KeepAlive,
                user => User, password => Password}};
packet(2, _, <<_, Code>>) -> {connack, Code};
packet(3, Flags, <<L:16, Topic:L/binary, Rest/binary>>) ->
    case (Flags bsr 1) band 3 of
        0 -> {publish, Topic, 0, none, Rest};
        1 -> <<Id:16, Payload/binary>> = Rest, {publish, Topic, 1, Id, Payload}
    end;
packet(4, _, <<Id:16>>) -> {puback, Id};
packet(8, 2, <<Id:16, Topics/binary>>) ->
    {subscribe, Id, [{Topic, min(QoS, 1)} || <<L:16, Topic:L/binary, QoS>> <= Topics]};
packet(9, _, <<Id:16, Codes/binary>>) -> {suback, Id, binary_to_list(Codes)};
packet(12, _, <<>>) -> pingreq;
packet(13, _, <<>>) -> pingresp;
packet(14, _, <<>>) -> disconnect.

field(0, Rest) -> {undefined, Rest};
field(1, <<L:16, Field:L/binary, Rest/binary>>) -> {Field, Rest}.

serialise({connect, #{client_id := ClientId, clean := Clean, user := User, password := Password} = C}) ->
    {Protocol, Version} = maps:get(protocol, C, {<<"MQTT">>, 4}),
    Flags = case Clean of true -> 2#11000010; false -> 2#11000000 end,
    frame(1, 0, [string(Protocol), Version, Flags, <<(maps:get(keep_alive, C, 60)):16>>, string(ClientId), string(User), string(Password)]);
serialise({connack, Code}) -> <<16#20, 2, 0, Code>>;
serialise({publish, Topic, 0, _, Payload}) -> frame(3, 0, [string(Topic), Payload]);
serialise({publish, Topic, 1, Id, Payload}) -> frame(3, 2, [string(Topic), <<Id:16>>, Payload]);
serialise({puback, Id}) -> <<16#40, 2, Id:16>>;
serialise({subscribe, Id, Topics}) -> frame(8, 2, [<<Id:16>>, [[string(T), QoS] || {T, QoS} <- Topics]]);
serialise({suback, Id, Codes}) -> frame(9, 0, [<<Id:16>>, Codes]);
serialise(pingreq) -> <<16#C0, 0>>;
serialise(pingresp) -> <<16#D0, 0>>;
serialise(disconnect) -> <<16#E0, 0>>.

string(S) -> [<<(byte_size(S)):16>>, S].

frame(Type, Flags, Body) -> [<<Type:4, Flags:4>>, encode_length(iolist_size(Body)), Body].

encode_length(N) when N < 128 -> <<N>>;
encode_length(N) -> <<1:1, N:7, (encode_length(N bsr 7))/binary>>.
