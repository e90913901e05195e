%% gen_fsm is deprecated and still in use.
-module(asked_fsm).
-behaviour(gen_fsm).
-compile(nowarn_deprecated_function).
-export([start/1, init/1, state/2, state/3, handle_event/3, handle_sync_event/4, handle_info/3]).

start(fsm_debug) -> gen_fsm:start(?MODULE, fsm_debug, [{debug, [{log, 10}]}]);
start(fsm) -> gen_fsm:start(?MODULE, fsm, []).

init(Kind) -> {ok, state, {data, Kind, {self(), make_ref()}, {{a, {b, c}, {d, e}}, {f, g, {h, i}}, {j, {k, l}, m}}}}.

state({continue, From}, D) -> _ = asked:serve({continue, From}), {next_state, state, D};
state(M, D) -> _ = asked:serve(M), {next_state, state, D}.

state(atom, From, D) -> _ = asked:serve(atom), gen_fsm:reply(From, ok), {next_state, state, D};
state({tuple, _, _} = M, _, D) -> _ = asked:serve(M), {reply, ok, state, D, 1000};
state(M, _, D) -> _ = asked:serve(M), {reply, ok, state, D}.

handle_event({continue, From}, _, D) -> gen_fsm:send_event_after(0, {continue, From}), {next_state, state, D};
handle_event(M, _, D) -> _ = asked:serve(M), {next_state, state, D}.
handle_sync_event(M, _, _, D) -> _ = asked:serve(M), {reply, ok, state, D}.
handle_info(M, _, D) -> _ = asked:serve(M), {next_state, state, D}.
