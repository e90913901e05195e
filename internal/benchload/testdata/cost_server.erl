-module(cost_server).
-behaviour(gen_server).
-export([init/1, handle_call/3, handle_cast/2]).

init(Table) -> {ok, Table}.

handle_call({read, Key}, _From, Table) -> {reply, ets:lookup_element(Table, Key, 2), Table};
handle_call({write, Key, Value}, _From, Table) -> true = ets:insert(Table, {Key, Value}), {reply, ok, Table};
handle_call({ask, [Next | Rest], Work}, _From, Table) -> {reply, gen_server:call(Next, {ask, Rest, Work}, infinity), Table};
handle_call({ask, [], Work}, _From, Table) -> {reply, cost:leaf(Work), Table}.

handle_cast({work, Work}, Table) -> _ = cost:leaf(Work), {noreply, Table}.
