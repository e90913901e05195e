%% Objects: concurrent values by the dot that wrote them, and a causal context.
-module(swc_kv).
-export([new/0, write/3, sync/2, strip/2, fill/2, value/1, dots/1]).
-export_type([object/0]).

-type object() :: {#{swc_node:dot() => {Microseconds :: integer(), Value :: term()}}, #{swc_node:id() => pos_integer()}}.

new() -> {#{}, #{}}.

%% write replaces what the object holds by one value.
-spec write(object(), swc_node:dot(), term()) -> object().
write({_, Context}, {Id, Counter} = Dot, Value) ->
    {#{Dot => {erlang:system_time(microsecond), Value}}, Context#{Id => Counter}}.

%% sync merges two versions: a value is lost where the other version has seen and dropped it.
-spec sync(object(), object()) -> object().
sync({V1, C1}, {V2, C2}) ->
    Keep = fun(Values, Others, Context) ->
               maps:filter(fun({Id, Counter} = Dot, _) ->
                               maps:is_key(Dot, Others) orelse Counter > maps:get(Id, Context, 0)
                           end, Values)
           end,
    {maps:merge(Keep(V1, V2, C2), Keep(V2, V1, C1)), join(C1, C2)}.

%% strip drops from the context what the node clock says anyway; fill puts it back.
strip({Values, Context}, Clock) ->
    {Values, maps:filter(fun(Id, Counter) -> Counter > swc_node:base(Clock, Id) end, Context)}.

fill({Values, Context}, Clock) ->
    {Values, join(Context, swc_node:bases(Clock))}.

join(C1, C2) ->
    maps:fold(fun(Id, Counter, Acc) -> Acc#{Id => max(Counter, maps:get(Id, Acc, 0))} end, C1, C2).

%% value is the latest of the object's values, or undefined.
value({Values, _}) ->
    case lists:sort(maps:values(Values)) of
        [] -> undefined;
        Sorted -> element(2, lists:last(Sorted))
    end.

dots({Values, _}) -> maps:keys(Values).
