-module(asked_statem).
-behaviour(gen_statem).
-export([start/1, init/1, callback_mode/0, one/3, two/3]).

start(statem_debug) -> gen_statem:start(?MODULE, statem_debug, [{debug, [{log, 10}]}]);
start(Kind) -> gen_statem:start(?MODULE, Kind, []).

callback_mode() -> [state_functions, state_enter].

%% The data is a tuple of tuples, as much in the way of what is looked for as it can be.
init(Kind) ->
    {ok, one, {data, Kind, {self(), make_ref()}, {{a, {b, c}, {d, e}}, {f, g, {h, i}}, {j, {k, l}, m}}}}.

%% Two states that take turns: what the first does not serve it postpones.
one(enter, _, _) -> keep_state_and_data;
one({call, _}, {literal, _}, _) -> {keep_state_and_data, [postpone, {state_timeout, 2, next}]};
one(state_timeout, next, D) -> {next_state, two, D};
one({call, From}, {tuple, _, _} = M, _) -> _ = asked:serve(M), {keep_state_and_data, [{reply, From, ok}, {next_event, internal, {internal, x}}]};
one(internal, {internal, _}, _) -> _ = asked:on_internal(), keep_state_and_data;
one({call, From}, atom, _) -> _ = asked:serve(atom), gen_statem:reply(From, ok), keep_state_and_data;
one({call, From}, M, _) -> _ = asked:serve(M), {keep_state_and_data, {reply, From, ok}};
one(cast, {continue, From}, _) -> {keep_state_and_data, {timeout, 0, {continue, From}}};
one(timeout, M, _) -> _ = asked:serve(M), keep_state_and_data;
one(_, M, _) -> _ = asked:serve(M), keep_state_and_data.

two(enter, one, D) -> _ = asked:on_enter(), {keep_state, D};
two({call, From}, {literal, _} = M, D) -> _ = asked:serve(M), {next_state, one, D, {reply, From, ok}};
two({call, _}, _, _) -> {keep_state_and_data, postpone};
two(_, M, _) -> _ = asked:serve(M), keep_state_and_data.
