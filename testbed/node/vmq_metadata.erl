%% The cluster's metadata: keys under a prefix, replicated to all nodes.
-module(vmq_metadata).
-export([put/3, get/2, delete/2, fold/3, subscribe/1]).

put(Prefix, Key, Value) ->
    PKey = {Prefix, Key},
    vmq_swc_store:write(vmq_swc_config:group(PKey), PKey, Value).

%% get returns the value, or undefined (also for a tombstone).
get(Prefix, Key) ->
    PKey = {Prefix, Key},
    case vmq_swc_store:read(vmq_swc_config:group(PKey), PKey) of
        '$deleted' -> undefined;
        Value -> Value
    end.

delete(Prefix, Key) -> ?MODULE:put(Prefix, Key, '$deleted').

%% fold goes over all keys of a prefix that hold a value.
fold(Fun, Acc, Prefix) ->
    Each = fun({P, Key}, Value, A) when P =:= Prefix, Value =/= '$deleted' -> Fun(Key, Value, A);
              (_, _, A) -> A
           end,
    lists:foldl(fun(Group, A) -> vmq_swc_store:fold(Each, A, Group) end, Acc, vmq_swc_config:groups()).

%% subscribe sends {updated, {Prefix, Key}, Old, New, Tag} to the caller at each change.
subscribe(Prefix) ->
    lists:foreach(fun(Group) -> ok = vmq_swc_store:subscribe(Group, Prefix) end, vmq_swc_config:groups()).
