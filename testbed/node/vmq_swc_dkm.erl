%% Dot-key map of one group: which key a dot wrote. An ordered ETS table of
%% {Dot, Key, Tombstone}.
-module(vmq_swc_dkm).
-export([new/0, replace/4, lookup/2, prune/3, forget/2]).

new() -> ets:new(?MODULE, [ordered_set, protected, {read_concurrency, true}]).

%% replace notes the dots of a key's new object and forgets those of the old one.
replace(Dkm, Key, Old, New) ->
    Tombstone = swc_kv:value(New) =:= '$deleted',
    Dots = swc_kv:dots(New),
    [ets:delete(Dkm, Dot) || Dot <- swc_kv:dots(Old) -- Dots],
    ets:insert(Dkm, [{Dot, Key, Tombstone} || Dot <- Dots]).

lookup(Dkm, Dot) ->
    case ets:lookup(Dkm, Dot) of
        [{_, Key, _}] -> {ok, Key};
        [] -> not_found
    end.

%% prune forgets at most Limit dots that all nodes have seen (Bases: writer => counter)
%% and returns the keys among them whose object is a tombstone.
prune(Dkm, Bases, Limit) ->
    {_, Keys} = maps:fold(fun(Id, Base, {Left, Keys}) ->
                              prune(Dkm, ets:next(Dkm, {Id, 0}), Id, Base, Left, Keys)
                          end, {Limit, []}, Bases),
    Keys.

prune(Dkm, {Id, Counter} = Dot, Id, Base, Left, Keys) when Counter =< Base, Left > 0 ->
    Keys1 = case ets:lookup(Dkm, Dot) of
                [{_, Key, true}] -> [Key | Keys];
                _ -> Keys
            end,
    Next = ets:next(Dkm, Dot),
    ets:delete(Dkm, Dot),
    prune(Dkm, Next, Id, Base, Left - 1, Keys1);
prune(_, _, _, _, Left, Keys) -> {Left, Keys}.

%% forget drops all dots of one writer.
forget(Dkm, Id) -> ets:match_delete(Dkm, {{Id, '_'}, '_', '_'}).
