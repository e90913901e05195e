%% Loads new versions of a module all the time, each at another place and with
%% its functions moved, and purges the old ones; workers run whatever is current
%% and note when they ran which version.
-module(reload).
-export([start/2, stop/0, ran/0]).

%% Workers, and a new version each Interval milliseconds.
start(Workers, Interval) ->
    load(1),
    Loader = spawn(fun() -> register(reload_loader, self()), loader(2, Interval) end),
    put(workers, [spawn(fun() -> worker(0, 0, 0, []) end) || _ <- lists:seq(1, Workers)]),
    Loader.

stop() ->
    reload_loader ! {stop, self()},
    receive {loaded, N} -> N end.

loader(N, Interval) ->
    receive
        {stop, From} -> From ! {loaded, N - 1}
    after Interval ->
        load(N),
        loader(N + 1, Interval)
    end.

load(N) ->
    {ok, reloaded, Code} = compile:forms(forms(N), []),
    code:purge(reloaded),
    {module, reloaded} = code:load_binary(reloaded, "reloaded", Code).

%% Version N has N rem 7 functions of different sizes before those that run.
forms(N) ->
    V = integer_to_list(N),
    parse(["-module(reloaded).", "-export([run/0])."] ++
        ["pad_" ++ integer_to_list(P) ++ "(X) -> {" ++ lists:append(lists:duplicate(P * 5, "X, ")) ++ "X}."
         || P <- lists:seq(1, N rem 7)] ++
        ["run() -> R = first_" ++ V ++ "(3000), {" ++ V ++ ", R}.",
         "first_" ++ V ++ "(X) -> R = second_" ++ V ++ "(X, 0), {R, X}.",
         "second_" ++ V ++ "(0, S) -> erlang:crc32(integer_to_list(S));" ++
         "second_" ++ V ++ "(X, S) -> _ = erlang:phash2({X, S}), second_" ++ V ++ "(X - 1, (S * 7 + X) band 65535)."] ++
        ["-export([" ++ lists:join($,, ["pad_" ++ integer_to_list(P) ++ "/1" || P <- lists:seq(1, N rem 7)]) ++ "])."]).

parse(Lines) ->
    Forms = [begin {ok, T, _} = erl_scan:string(lists:flatten(L)), {ok, F} = erl_parse:parse_form(T), F end || L <- Lines],
    {Attributes, Functions} = lists:partition(fun(F) -> element(1, F) =:= attribute end, Forms),
    Attributes ++ Functions.

%% What CLOCK_MONOTONIC says.
now_ns() ->
    proplists:get_value(time, erlang:system_info(os_monotonic_time_source)).

worker(V, From, To, Ran) ->
    receive
        {ran, Pid} -> Pid ! {ran, self(), [{V, From, To} | Ran]}
    after 0 -> ok
    end,
    Began = now_ns(),
    {N, _} = reloaded:run(),
    Ended = now_ns(),
    if
        N =:= V -> worker(V, From, Ended, Ran);
        true -> worker(N, Began, Ended, [{V, From, To} | Ran])
    end.

%% Lines of process, version, and when it ran that first and last.
ran() ->
    [P ! {ran, self()} || P <- get(workers)],
    iolist_to_binary([receive {ran, P, L} ->
        [io_lib:format("~s ~b ~b ~b~n", [pid_to_list(P), V, From, To]) || {V, From, To} <- L]
    end || P <- get(workers)]).
