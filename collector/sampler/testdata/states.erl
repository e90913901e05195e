%% Loads that keep a VM's schedulers in one state each, and microstate accounting
%% to compare with.
-module(states).
-export([start/1, stop/1, account/0, accounted/1]).

start(Kind) -> spawn(fun() -> process_flag(trap_exit, true), start(Kind, self()), receive stop -> ok end end).
stop(P) -> exit(P, kill).

start(cpu, _) -> [spawn_link(fun() -> spin(N) end) || N <- lists:seq(1, 2)];
start(gc, _) -> [spawn_link(fun() -> garbage(live(), []) end) || _ <- lists:seq(1, 2)];
start(mixed, _) ->
    [spawn_link(fun() -> spin(1) end), spawn_link(fun() -> garbage(live(), []) end)];
start(socket, _) ->
    {ok, L} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, true}, {nodelay, true}]),
    {ok, Port} = inet:port(L),
    [begin
         Server = spawn_link(fun() -> receive go -> echo() end end),
         spawn_link(fun() ->
             {ok, C} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, true}, {nodelay, true}]),
             ok = gen_tcp:send(C, <<"ping">>),
             echo()
         end),
         {ok, S} = gen_tcp:accept(L),
         ok = gen_tcp:controlling_process(S, Server),
         Server ! go
     end || _ <- lists:seq(1, 8)];
%% Wakes up often and does next to nothing: the schedulers spin for work in between.
start(idle, _) -> [spawn_link(fun() -> tick() end) || _ <- lists:seq(1, 4)].

tick() -> receive after 1 -> tick() end.

echo() ->
    receive
        {tcp, S, Data} -> ok = gen_tcp:send(S, Data), echo();
        {tcp_closed, _} -> ok
    end.

spin(N) -> spin((N * 7 + 1) band 16#ffffff).

live() -> [{N, integer_to_list(N)} || N <- lists:seq(1, 3000)].
garbage(Live, _) -> garbage(Live, [{N, [X]} || {N, X} <- Live]).

account() -> erlang:system_flag(microstate_accounting, reset), erlang:system_flag(microstate_accounting, true), ok.

%% "type state microseconds" per line, for threads of one type together, and
%% "type threads 1000000" for each thread.
accounted(_) ->
    erlang:system_flag(microstate_accounting, false),
    Stats = erlang:statistics(microstate_accounting),
    Sums = lists:foldl(fun(#{type := T, counters := C}, Acc) ->
        maps:fold(fun(S, V, A) -> maps:update_with({T, S}, fun(O) -> O + V end, V, A) end, Acc, C)
    end, #{}, Stats),
    iolist_to_binary([[io_lib:format("~s ~s ~w~n", [T, S, erlang:convert_time_unit(V, perf_counter, microsecond)])
                       || {{T, S}, V} <- maps:to_list(Sums)],
                      [io_lib:format("~s threads 1000000~n", [T]) || #{type := T} <- Stats]]).
