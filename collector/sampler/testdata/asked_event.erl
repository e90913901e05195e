-module(asked_event).
-behaviour(gen_event).
-export([start/1, init/1, handle_event/2, handle_call/2, handle_info/2]).

%% Several handlers: the last of them is called deep in the manager's recursion.
start(event) ->
    {ok, Manager} = gen_event:start(),
    ok = gen_event:add_handler(Manager, ?MODULE, work),
    _ = [ok = gen_event:add_handler(Manager, {?MODULE, N}, idle) || N <- lists:seq(1, 12)],
    {ok, Manager}.

init(Kind) -> {ok, {Kind, {self(), make_ref()}, {{a, {b, c}, {d, e}}, {f, g, {h, i}}, {j, {k, l}, m}}}}.

handle_event(E, {work, _, _} = S) -> _ = asked:serve(E), {ok, S};
handle_event(_, S) -> {ok, S}.

handle_call(R, {work, _, _} = S) -> _ = asked:serve(R), {ok, ok, S}.

handle_info(M, {work, _, _} = S) -> _ = asked:serve(M), {ok, S};
handle_info(_, S) -> {ok, S}.
