-module(asked_statem_events).
-behaviour(gen_statem).
-export([start/1, init/1, callback_mode/0, handle_event/4]).

start(statem_debug) -> gen_statem:start(?MODULE, statem_debug, [{debug, [{log, 10}]}]);
start(Kind) -> gen_statem:start(?MODULE, Kind, []).

callback_mode() -> [handle_event_function, state_enter].

%% The data is a tuple of tuples, as much in the way of what is looked for as it can be.
init(Kind) ->
    {ok, one, {data, Kind, {self(), make_ref()}, {{a, {b, c}, {d, e}}, {f, g, {h, i}}, {j, {k, l}, m}}}}.

%% Two states that take turns: what the first does not serve it postpones.
handle_event(enter, _, one, _) -> keep_state_and_data;
handle_event({call, _}, {literal, _}, one, _) -> {keep_state_and_data, [postpone, {state_timeout, 2, next}]};
handle_event(state_timeout, next, one, D) -> {next_state, two, D};
handle_event({call, From}, {tuple, _, _} = M, one, _) -> _ = asked:serve(M), {keep_state_and_data, [{reply, From, ok}, {next_event, internal, {internal, x}}]};
handle_event(internal, {internal, _}, one, _) -> _ = asked:on_internal(), keep_state_and_data;
handle_event({call, From}, atom, one, _) -> _ = asked:serve(atom), gen_statem:reply(From, ok), keep_state_and_data;
handle_event({call, From}, M, one, _) -> _ = asked:serve(M), {keep_state_and_data, {reply, From, ok}};
handle_event(cast, {continue, From}, one, _) -> {keep_state_and_data, {timeout, 0, {continue, From}}};
handle_event(timeout, M, one, _) -> _ = asked:serve(M), keep_state_and_data;
handle_event(_, M, one, _) -> _ = asked:serve(M), keep_state_and_data;
handle_event(enter, one, two, D) -> _ = asked:on_enter(), {keep_state, D};
handle_event({call, From}, {literal, _} = M, two, D) -> _ = asked:serve(M), {next_state, one, D, {reply, From, ok}};
handle_event({call, _}, _, two, _) -> {keep_state_and_data, postpone};
handle_event(_, M, two, _) -> _ = asked:serve(M), keep_state_and_data.
