%% Processes of every kind, many of which are gone soon, and what the VM says of
%% each: census:all/0 returns a line per process.
-module(census).
-export([start/1, done/0, all/0, plain/1, plain/3, loop/1, enter/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_event/4, callback_mode/0, work/1, terminate/2]).

start(N) ->
    spawn(fun() ->
        ets:new(census, [named_table, public]),
        register(census_taker, self()),
        run(lists:seq(1, N), []),
        receive stop -> ok end
    end).

%% One after the other: each does its work at once, and all the work is sampled.
run([N | Rest], Held) ->
    Parent = self(),
    one(N rem kinds(), N, Parent),
    receive {worked, P} -> run(Rest, [P | Held]) end;
run([], Held) ->
    ets:insert(census, {done, length(Held)}).

done() -> ets:info(census) =/= undefined andalso ets:member(census, done).

kinds() -> 16.

one(0, _, Parent) -> spawn(?MODULE, plain, [Parent]);
one(1, _, Parent) -> spawn(?MODULE, plain, [Parent, x, y]);
one(2, N, Parent) -> spawn(fun() -> worked(Parent, N, fun_name()), hold() end);
one(3, N, Parent) -> spawn(fun() -> register(name("census_registered_", N), self()), worked(Parent, N, fun_name()), hold() end);
one(4, _, Parent) -> {ok, P} = gen_server:start(?MODULE, server, []), gen_server:cast(P, {work, Parent});
one(5, N, Parent) ->
    {ok, P} = gen_server:start({local, name("census_server", N)}, ?MODULE, server, []),
    gen_server:cast(P, {work, Parent});
one(6, N, Parent) -> proc_lib:spawn(fun() -> worked(Parent, N, none), hold() end);
one(7, _, Parent) -> proc_lib:spawn(?MODULE, enter, [Parent, x]);
one(8, _, Parent) -> {ok, P} = gen_statem:start(?MODULE, statem, []), gen_statem:cast(P, {work, Parent});
%% A dictionary of many keys, in which the initial call must be found.
one(9, N, Parent) ->
    proc_lib:spawn(fun() ->
        [put(list_to_atom("census_key_" ++ integer_to_list(I)), I) || I <- lists:seq(1, 200)],
        worked(Parent, N, none),
        hold()
    end);
%% Gone when they have done their work.
one(10, N, Parent) -> spawn(fun() -> worked(Parent, N, fun_name()), gone end);
one(11, N, Parent) -> spawn(fun() -> register(name("census_short_", N), self()), worked(Parent, N, fun_name()), gone end);
one(12, N, Parent) -> proc_lib:spawn(fun() -> worked(Parent, N, none), gone end);
one(13, _, Parent) -> proc_lib:spawn(?MODULE, enter, [Parent, short]);
one(14, _, Parent) -> {ok, P} = gen_server:start(?MODULE, server, []), gen_server:cast(P, {work_and_stop, Parent});
one(15, N, Parent) ->
    {ok, P} = gen_server:start({local, name("'Census' ", N)}, ?MODULE, server, []),
    gen_server:cast(P, {work_and_stop, Parent}).

name(Text, N) -> list_to_atom(Text ++ integer_to_list(N)).

plain(Parent) -> worked(Parent, 1, none), hold().
plain(Parent, _, _) -> worked(Parent, 1, none), hold().
enter(Parent, short) -> worked(Parent, 1, none), gone;
enter(Parent, _) -> worked(Parent, 1, none), hold().
loop(_) -> hold().

init(statem) -> {ok, state, []};
init(server) -> {ok, []}.
callback_mode() -> handle_event_function.
handle_event(cast, {work, Parent}, state, _) -> worked(Parent, 1, none), keep_state_and_data.
handle_call(_, _, S) -> {reply, ok, S}.
handle_cast({work, Parent}, S) -> worked(Parent, 1, none), {noreply, S};
handle_cast({work_and_stop, Parent}, S) -> worked(Parent, 1, none), {stop, normal, S}.
terminate(_, _) -> ok.

hold() -> receive stop -> ok end.

%% The function that calls this: the name of the fun that a process was spawned with.
fun_name() ->
    {current_stacktrace, [_, {M, F, A, _} | _]} = process_info(self(), current_stacktrace),
    {M, F, A}.

%% A few milliseconds of work, between which a process tells what the VM says of it.
worked(Parent, N, Fun) ->
    Before = work(40),
    [{_, Name}, {_, Call}, {_, Dictionary}] = process_info(self(), [registered_name, initial_call, dictionary]),
    Initial = case Call of
        {proc_lib, init_p, _} -> proplists:get_value('$initial_call', Dictionary);
        _ -> Call
    end,
    ets:insert(census, {self(), Name, Initial, Fun}),
    After = work(40 + N rem 3),
    Parent ! {worked, self()},
    {Before, After}.

work(0) -> 0;
work(N) ->
    L = lists:reverse([integer_to_list(X) || X <- lists:seq(1, 100)]),
    erlang:crc32(term_to_binary(lists:sort(L))) bxor work(N - 1).

all() ->
    unicode:characters_to_binary(
        [io_lib:format("~s\t~ts\t~s\t~s\n", [pid_to_list(P), text(Name), mfa(Initial), mfa(Fun)])
         || {P, Name, Initial, Fun} <- ets:tab2list(census)]).

text([]) -> "";
text(Name) -> atom_to_list(Name).

mfa(none) -> "";
mfa({M, F, A}) -> io_lib:format("~tp:~tp/~p", [M, F, A]).
