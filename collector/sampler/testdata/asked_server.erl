-module(asked_server).
-behaviour(gen_server).
-export([start/1, init/1, handle_call/3, handle_cast/2, handle_info/2, handle_continue/2]).

start(server_debug) -> gen_server:start(?MODULE, server_debug, [{debug, [{log, 10}]}]);
start(Kind) -> gen_server:start(?MODULE, Kind, []).

%% The state is a tuple of tuples, as much in the way of what is looked for as it can be.
init(Kind) -> {ok, {state, Kind, {self(), make_ref()}, {{a, {b, c}, {d, e}}, {f, g, {h, i}}, {j, {k, l}, m}}}}.

handle_call(Request, _, S) ->
    _ = asked:serve(Request),
    reply(Request, S).

%% All ways to answer.
reply({tuple, _, _}, S) -> {reply, ok, S, 1000};
reply(atom, {state, server_hibernate, _, _} = S) -> {reply, ok, S, hibernate};
reply({literal, _}, S) -> throw({reply, ok, S});
reply(_, S) -> {reply, ok, S}.

handle_cast({timeout, From}, S) -> put(timeout, From), {noreply, S, 0};
handle_cast({continue, From}, S) -> {noreply, S, {continue, {continue, From}}};
handle_cast(M, S) -> _ = asked:serve(M), {noreply, S}.

handle_info(timeout, S) ->
    case erase(timeout) of
        undefined -> ok;
        From -> _ = asked:serve({timeout, From})
    end,
    {noreply, S};
handle_info(M, {state, server_hibernate, _, _} = S) -> _ = asked:serve(M), {noreply, S, hibernate};
handle_info(M, S) -> _ = asked:serve(M), {noreply, S}.

handle_continue(M, S) -> _ = asked:serve(M), {noreply, S}.
