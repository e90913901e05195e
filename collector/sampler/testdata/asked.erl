%% Generic servers whose work tells by itself what it was asked for, and by whom:
%% every request is made by callers of one kind and does its work in a function
%% of its own. The same work is asked of servers of every behaviour.
-module(asked).
-compile(nowarn_deprecated_function).
-export([start/1, who/0, caller/2, spawned/2, serve/1, work/0, remote/1]).
-export([on_atom/0, on_tuple/0, on_short/0, on_literal/0, on_large/0, on_single/0, on_list/0, on_string/0, on_nested/0,
         on_cast/0, on_cast_atom/0, on_info/0, on_info_atom/0, on_timeout/0, on_continue/0, on_internal/0,
         on_enter/0, on_remote/0, on_terminate/0, on_event/0, on_sync_event/0, on_postponed/0]).

%% A server of a behaviour and its callers. Returns the server's pid.
start(Behaviour) ->
    {ok, Server} = (module(Behaviour)):start(Behaviour),
    put(who, [{What, start_caller(How, What, {Behaviour, Server})} || {How, What} <- callers(Behaviour)]),
    Server.

%% Who asks for what: lines of a request and the kind of the process.
who() -> iolist_to_binary([[atom_to_list(What), $ , Kind, $\n] || {What, Kind} <- get(who)]).

module(state_functions) -> asked_statem;
module(statem_debug) -> asked_statem;
module(handle_event_function) -> asked_statem_events;
module(event) -> asked_event;
module(fsm) -> asked_fsm;
module(fsm_debug) -> asked_fsm;
module(_) -> asked_server.

callers(event) ->
    callers() ++ [{bare, event}, {bare, sync_event}, {bare, info}, {bare, info_atom}];
callers(server_timeout) ->
    [{bare, timeout}];
callers(_) ->
    callers() ++ [{bare, cast}, {bare, cast_atom}, {bare, info}, {bare, info_atom}, {bare, continue}].

callers() ->
    [{registered, atom}, {proc_lib, tuple}, {bare, literal}, {function, large}, {proc_lib_function, single},
     {registered, list}, {registered, string}, {registered, nested}, {short, short}].

%% Starts a caller and returns its kind.
start_caller(registered, What, To) ->
    Name = "asked_" ++ atom_to_list(What) ++ "_caller_",
    spawn(fun() -> register(list_to_atom(Name ++ "1"), self()), caller(What, To) end),
    Name ++ "N";
start_caller(proc_lib, What, To) ->
    proc_lib:spawn(?MODULE, caller, [What, To]),
    "asked:caller/2";
start_caller(bare, What, To) ->
    spawn(?MODULE, caller, [What, To]),
    "asked:caller/2";
start_caller(function, What, To) ->
    F = fun() -> {ended, caller(What, To)} end,
    spawn(F),
    {name, Name} = erlang:fun_info(F, name),
    {env, Env} = erlang:fun_info(F, env),
    io_lib:format("asked:~p/~p", [Name, length(Env)]);
start_caller(proc_lib_function, What, To) ->
    F = fun() -> caller(What, To) end,
    proc_lib:spawn(F),
    {name, Name} = erlang:fun_info(F, name),
    io_lib:format("asked:~p/0", [Name]);
start_caller(short, What, To) ->
    spawn(fun() -> one_by_one(What, To) end),
    "asked:spawned/2".

%% Every call is made by a process that is there for one call only.
one_by_one(What, To) ->
    {P, M} = spawn_monitor(?MODULE, spawned, [What, To]),
    receive {'DOWN', M, process, P, _} -> ok end,
    one_by_one(What, To).

spawned(What, To) -> ok = ask(What, To).

%% It could end: the compiler would turn calls of a function that never returns
%% into tail calls, and the fun that called it would be gone from the stack.
caller(What, To) ->
    case ask(What, To) of
        ok -> caller(What, To);
        Other -> Other
    end.

%% Casts and messages would pile up: the server answers when it is done.
ask(What, {_, Server} = To) when What =:= cast; What =:= info; What =:= continue; What =:= timeout; What =:= event ->
    send(What, To, Server),
    receive {done, Server} -> ok end;
ask(What, {_, Server} = To) when What =:= cast_atom; What =:= info_atom ->
    send(What, To, Server),
    timer:sleep(40);
ask(sync_event, {event, Server}) -> gen_event:sync_notify(Server, {sync_event, self()});
ask(What, {event, Server}) -> gen_event:call(Server, asked_event, request(What), infinity);
ask(What, {fsm, Server}) -> gen_fsm:sync_send_event(Server, request(What), infinity);
ask(What, {fsm_debug, Server}) -> gen_fsm:sync_send_all_state_event(Server, request(What), infinity);
ask(What, {_, Server}) -> gen_server:call(Server, request(What), infinity).

send(info, _, Server) -> Server ! {info, self()};
send(info_atom, _, Server) -> Server ! info_atom;
send(event, _, Server) -> gen_event:notify(Server, {event, self()});
send(cast, {Fsm, _}, Server) when Fsm =:= fsm -> gen_fsm:send_event(Server, {cast, self()});
send(cast_atom, {Fsm, _}, Server) when Fsm =:= fsm -> gen_fsm:send_event(Server, cast_atom);
send(What, {fsm_debug, _}, Server) -> gen_fsm:send_all_state_event(Server, message(What));
send(What, {fsm, _}, Server) -> gen_fsm:send_all_state_event(Server, message(What));
send(What, _, Server) -> gen_server:cast(Server, message(What)).

message(cast_atom) -> cast_atom;
message(What) -> {What, self()}.

request(atom) -> atom;
request(short) -> {short, self(), erlang:monotonic_time()};
request(tuple) -> {tuple, self(), erlang:monotonic_time()};
request(literal) -> {literal, <<"never on a heap">>};
request(large) -> list_to_tuple([large | lists:seq(1, 30)]);
request(single) -> list_to_tuple([single]);
request(list) -> [list, self()];
request(string) -> "string";
request(nested) -> {{nested, self()}, self()}.

%% What a server does with a request it got, by what it is.
serve(atom) -> on_atom();
serve({tuple, _, _}) -> on_tuple();
serve({short, _, _}) -> on_short();
serve({literal, _}) -> on_literal();
serve(T) when element(1, T) =:= large -> on_large();
serve({single}) -> on_single();
serve([list, _]) -> on_list();
serve("string") -> on_string();
serve({{nested, _}, _}) -> on_nested();
serve({remote, _}) -> on_remote();
serve({cast, From}) -> done(From, on_cast());
serve(cast_atom) -> on_cast_atom();
serve({info, From}) -> done(From, on_info());
serve(info_atom) -> on_info_atom();
serve({event, From}) -> done(From, on_event());
serve({sync_event, _}) -> on_sync_event();
serve({timeout, From}) -> done(From, on_timeout());
serve({continue, From}) -> done(From, on_continue()).

done(From, Result) -> From ! {done, self()}, Result.

on_atom() -> R = work(), {atom, R}.
on_tuple() -> R = work(), {tuple, R}.
on_short() -> R = work(), {short, R}.
on_literal() -> R = work(), {literal, R}.
on_large() -> R = work(), {large, R}.
on_single() -> R = work(), {single, R}.
on_list() -> R = work(), {list, R}.
on_string() -> R = work(), {string, R}.
on_nested() -> R = work(), {nested, R}.
on_remote() -> R = work(), {remote, R}.
on_cast() -> R = work(), {cast, R}.
on_cast_atom() -> R = work(), {cast_atom, R}.
on_info() -> R = work(), {info, R}.
on_info_atom() -> R = work(), {info_atom, R}.
on_event() -> R = work(), {event, R}.
on_sync_event() -> R = work(), {sync_event, R}.
on_timeout() -> R = work(), {timeout, R}.
on_continue() -> R = work(), {continue, R}.
on_internal() -> R = work(), {internal, R}.
on_enter() -> R = work(), {enter, R}.
on_postponed() -> R = work(), {postponed, R}.
on_terminate() -> R = work(), {terminate, R}.

%% About a millisecond of everything, in frames full of tuples.
work() -> R = work(10, {a, {b}}, {c, {d}}, [{e, {f}}]), {worked, R}.

work(0, _, _, _) -> everything();
work(N, A, B, C) ->
    R = work(N - 1, {A, N}, {B, N}, [{C, N}]),
    {R, A, B, C}.

%% JIT code, BIFs, garbage, binaries, exceptions.
everything() ->
    L = [{N, integer_to_list(N)} || N <- lists:seq(1, 300)],
    S = lists:sort(fun({A, _}, {B, _}) -> A band 15 =< B band 15 end, L),
    B = term_to_binary(S),
    _ = erlang:crc32(binary:copy(B, 8)),
    _ = [catch list_to_integer("x") || _ <- lists:seq(1, 20)],
    try throw({lists:nth(100, S), B}) catch T -> byte_size(element(2, T)) end.

%% A caller on another node.
remote(Server) ->
    _ = gen_server:call(Server, {remote, self()}, infinity),
    remote(Server).
