%% Loads whose cost to sample is measured: stacks of a known depth on one busy
%% process, and a mix of what servers do. The functions of the module tower call
%% each other, none of them in tail position, and the last one calls cost:leaf/1.
-module(cost).
-export([start/2, leaf/1, mix/0, asked/1, modules/1, count/1, counted/0]).
-on_load(load/0).

load() -> erlang:load_nif(filename:join(filename:dirname(code:which(?MODULE)), "cost_nif"), 0).

%% A process with the function tower:Top/2 at its root. Its heap is as large as
%% a busy server's, so that all of a page next to the root can be read.
start(Top, Work) ->
    spawn_opt(fun() -> tower:Top(Work, self()) end, [{min_heap_size, 20000}]).

%% It could end: a function that never returns is called like in tail position.
leaf(stop) -> stopped;
leaf(jit) -> spin(1, 100000), leaf(jit);
leaf({nif, Depth, Mode} = Work) -> _ = native(Depth, Mode), leaf(Work);
leaf(list) -> erlang:garbage_collect(), _ = lists:sort(lists:seq(1, 2000)), leaf(list).

spin(N, 0) -> N;
spin(N, I) -> spin((N * 7 + I) band 16#ffff, I - 1).

native(_Depth, _Mode) -> erlang:nif_error(not_loaded).

%% Servers with state in ETS, called by clients who sort, hash, encode and send.
mix() ->
    T = ets:new(mix, [set, public]),
    [ets:insert(T, {N, lists:seq(1, 50)}) || N <- lists:seq(0, 999)],
    Servers = [begin {ok, S} = gen_server:start({local, list_to_atom("cost_server" ++ integer_to_list(N))}, cost_server, T, []), S end
               || N <- lists:seq(1, 4)],
    [spawn(fun() -> client(Servers, socket(), N) end) || N <- lists:seq(1, 8)],
    ok.

socket() ->
    {ok, Sink} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}, {active, false}]),
    {ok, Port} = inet:port(Sink),
    {ok, Socket} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}]),
    {Socket, Port}.

client(Servers, {Socket, Port} = S, N) ->
    Server = lists:nth(1 + N rem length(Servers), Servers),
    List = gen_server:call(Server, {read, N rem 1000}),
    Sorted = lists:sort(fun(A, B) -> A > B end, List),
    Text = iolist_to_binary(lists:map(fun(X) -> io_lib:format("~w,", [X]) end, Sorted)),
    Map = maps:from_list([{X, X * X} || X <- List]),
    Hash = crypto:hash(sha256, [Text, term_to_binary(Map)]),
    ok = gen_udp:send(Socket, {127, 0, 0, 1}, Port, Hash),
    ok = gen_server:call(Server, {write, N rem 1000, tl(List) ++ [hd(List)]}),
    client(Servers, S, N + 1).

%% A server that is busy for whoever asked, who waits for a server as well, and so
%% on: so many processes wait. With 0 of them it was told and nobody waits.
asked(Waiting) ->
    [First | Rest] = [begin {ok, S} = gen_server:start(cost_server, none, [{spawn_opt, [{min_heap_size, 20000}]}]), S end
                      || _ <- lists:seq(1, max(1, Waiting))],
    case Waiting of
        0 -> gen_server:cast(First, {work, jit});
        _ -> spawn(fun() -> {done, gen_server:call(First, {ask, Rest, jit}, infinity)} end)
    end.

%% Loads the module cost_module0000 as many times, each time by another name of
%% the same length.
modules(Count) ->
    {Template, Code, _} = code:get_object_code(cost_module0000),
    lists:foreach(fun(N) ->
        Name = iolist_to_binary(io_lib:format("cost_module~4..0w", [N])),
        Renamed = binary:replace(Code, atom_to_binary(Template), Name, [global]),
        {module, _} = code:load_binary(binary_to_atom(Name), "cost_module.beam", Renamed)
    end, lists:seq(1, Count)).

%% Work on N processes that is counted; counted/0 says how much was done so far.
count(N) ->
    Counter = counters:new(N * 16, []),
    persistent_term:put(?MODULE, Counter),
    [spawn_opt(fun() -> count(Counter, I * 16) end, [{min_heap_size, 5000}]) || I <- lists:seq(1, N)],
    ok.

count(Counter, I) ->
    Sorted = lists:foldl(fun(X, Acc) -> [(X * 7919) rem 1009 | Acc] end, [], lists:seq(1, 200)),
    _ = erlang:phash2(lists:sort(Sorted)),
    counters:add(Counter, I, 1),
    count(Counter, I).

counted() ->
    Counter = persistent_term:get(?MODULE),
    #{size := Size} = counters:info(Counter),
    lists:sum([counters:get(Counter, I) || I <- lists:seq(16, Size, 16)]).
