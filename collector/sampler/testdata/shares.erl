%% Servers that work for two clients, one after the other, and the truth about
%% how long each worked for whom: every server is traced, what it ran between two
%% replies was for the one who got the second. Time is the CPU time of the VM, so
%% the truth holds as long as nothing else runs in it at the same time: with one
%% scheduler.
-module(shares).
-behaviour(gen_server).
-export([start/1, truth/0, init/1, handle_call/3, handle_cast/2]).

%% Starts servers in a chain, the first of which two clients ask: a heavy one for
%% four times as much work as a light one.
start(Names) ->
    Servers = chain(lists:reverse(Names), none),
    Tracer = spawn(fun() -> register(shares_tracer, self()), traced(#{}) end),
    erlang:trace(all, true, [cpu_timestamp]),
    [erlang:trace(P, true, [running, send, timestamp, {tracer, Tracer}]) || {_, P} <- Servers],
    put(servers, Servers),
    [{_, First} | _] = Servers,
    Heavy = spawn(fun() -> register(heavy_client_1, self()), client(First, heavy, 64) end),
    Light = spawn(fun() -> register(light_client_1, self()), client(First, light, 16) end),
    _ = [Heavy, Light],
    ok.

chain([Name | Before], Next) ->
    {ok, P} = gen_server:start({local, Name}, ?MODULE, Next, []),
    chain(Before, P) ++ [{Name, P}];
chain([], _) -> [].

client(Server, Who, Work) ->
    {served, Who} = gen_server:call(Server, {serve, Who, Work}, infinity),
    client(Server, Who, Work).

init(Next) -> {ok, Next}.

handle_call({serve, Who, Work}, _, Next) ->
    before(Work),
    ask(Next, Who, Work),
    afterwards(Work div 2),
    {reply, {served, Who}, Next}.

handle_cast(_, S) -> {noreply, S}.

ask(none, _, _) -> ok;
ask(Next, Who, Work) -> {served, Who} = gen_server:call(Next, {serve, Who, Work}, infinity).

before(N) -> R = work(N), {before, R}.
afterwards(N) -> R = work(N), {afterwards, R}.

work(0) -> 0;
work(N) ->
    L = lists:reverse([integer_to_list(X) || X <- lists:seq(1, 150)]),
    erlang:crc32(term_to_binary(lists:sort(L))) bxor work(N - 1).

microseconds({Mega, Seconds, Micro}) -> (Mega * 1000000 + Seconds) * 1000000 + Micro.

%% Time on a scheduler: by server and client, in microseconds.
traced(Times) ->
    receive
        {trace_ts, P, in, _, T} ->
            put({in, P}, microseconds(T)),
            traced(Times);
        {trace_ts, P, out, _, T} ->
            traced(run(P, microseconds(T), Times));
        {trace_ts, P, send, {_, {served, Who}}, _, T} ->
            Now = run(P, microseconds(T), Times),
            put({in, P}, microseconds(T)),
            {Unbooked, Rest} = take(P, Now),
            traced(maps:update_with({P, Who}, fun(S) -> S + Unbooked end, Unbooked, Rest));
        {trace_ts, _, send, _, _, _} ->
            traced(Times);
        {tell, From} ->
            From ! {times, Times},
            traced(Times)
    end.

%% Books the time since the server came in as not yet told for whom.
run(P, T, Times) ->
    case erase({in, P}) of
        undefined -> Times;
        Since -> maps:update_with(P, fun(S) -> S + T - Since end, T - Since, Times)
    end.

take(P, Times) ->
    case maps:take(P, Times) of
        error -> {0, Times};
        Taken -> Taken
    end.

%% Lines of server, client and microseconds.
truth() ->
    shares_tracer ! {tell, self()},
    Times = receive {times, M} -> M end,
    iolist_to_binary([io_lib:format("~s ~s ~b~n", [Name, Who, T])
                      || {Name, P} <- get(servers), {{Q, Who}, T} <- maps:to_list(Times), Q =:= P]).
