-module(cost_server).
-behaviour(gen_server).
-export([init/1, handle_call/3, handle_cast/2]).

init(Table) -> {ok, Table}.

handle_call({read, Key}, _From, Table) -> {reply, ets:lookup_element(Table, Key, 2), Table};
handle_call({write, Key, Value}, _From, Table) -> true = ets:insert(Table, {Key, Value}), {reply, ok, Table}.

handle_cast(_, Table) -> {noreply, Table}.
