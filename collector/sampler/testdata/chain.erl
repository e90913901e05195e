%% Known call chains: a/2 calls b/2 calls c/2, none of them a tail call, and c/2
%% does one kind of work for ever. It could end: the compiler would turn calls of
%% a function that never returns into tail calls.
-module(chain).
-export([start/1, deep/1]).

start(Kind) ->
    spawn(fun() -> root(Kind) end).

root(Kind) -> R = a(Kind, prepare(Kind)), {root, R}.

a(Kind, S) -> R = b(Kind, S), {a, R}.

b(Kind, S) -> R = c(Kind, S), {b, R}.

c(_, stop) -> stopped;
c(jit, S) -> c(jit, spin(S));
c(bif, S) -> _ = erlang:crc32(S), c(bif, S);
c(nif, S) -> _ = crypto:hash(sha256, S), c(nif, S);
c(gc, S) -> erlang:garbage_collect(), c(gc, S);
c(ets, {T, K} = S) -> _ = ets:insert(T, {K, S}), _ = ets:lookup(T, K), c(ets, S);
c(match, T) -> _ = ets:select(T, [{{'$1', '$2'}, [{'>', {'*', '$1', 2}, '$2'}], ['$1']}]), c(match, T);
c(syscall, {Socket, Port} = S) ->
    ok = gen_udp:send(Socket, {127, 0, 0, 1}, Port, <<"datagram">>),
    c(syscall, S);
c(dirty, S) -> {ok, _} = prim_file:read_file_info(S), c(dirty, S);
c(copy, S) -> self() ! S, receive S -> ok end, c(copy, S).

%% Arithmetic in one loop that needs no stack frame and stays in c/2's frame.
spin(N) -> spin(N, 0, 100000).
spin(N, _, 0) -> N;
spin(N, A, I) -> spin(N, (A * 7 + I) band 16#ffff, I - 1).

prepare(jit) -> 1;
prepare(bif) -> binary:copy(<<"0123456789abcdef">>, 4096);
prepare(nif) -> binary:copy(<<"0123456789abcdef">>, 512);
prepare(gc) -> [{N, integer_to_list(N)} || N <- lists:seq(1, 20000)];
prepare(ets) -> {ets:new(t, [set, public]), {key, lists:seq(1, 200)}};
prepare(match) ->
    T = ets:new(t, [ordered_set]),
    ets:insert(T, [{N, 5000} || N <- lists:seq(1, 3000)]),
    T;
prepare(syscall) ->
    {ok, Sink} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}, {active, false}]),
    {ok, Port} = inet:port(Sink),
    {ok, Socket} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}]),
    {Socket, Port};
prepare(dirty) -> <<"/">>;
prepare(copy) -> lists:seq(1, 2000).

%% Body recursion of a given depth that works at the bottom.
deep(Depth) -> spawn(fun() -> bottom(Depth) end).
bottom(Depth) -> R = down(Depth), {bottom, R}.
down(0) -> bottom_loop(1);
down(N) -> 1 + down(N - 1).
bottom_loop(stop) -> 0;
bottom_loop(S) -> bottom_loop(spin(S)).
