%% The groups of the metadata store and the registered names of their processes.
-module(vmq_swc_config).
-export([init/0, groups/0, group/1, name/2]).

-define(GROUPS, [meta1, meta2, meta3, meta4, meta5, meta6, meta7, meta8, meta9, meta10]).
-define(ROLES, [store, store_batcher, db, edist, group_membership, exchange_sup, store_sup]).

%% init makes the names once; name/2 then only looks them up.
init() ->
    persistent_term:put(?MODULE, maps:from_list([{{Role, Group}, list_to_atom(lists:concat([vmq_swc_, Role, '_', Group]))}
                                                 || Role <- ?ROLES, Group <- ?GROUPS])).

groups() -> ?GROUPS.

%% group tells which group holds a key.
group(PKey) -> lists:nth(erlang:phash2(PKey, length(?GROUPS)) + 1, ?GROUPS).

%% name(store, meta1) -> vmq_swc_store_meta1
name(Role, Group) -> maps:get({Role, Group}, persistent_term:get(?MODULE)).
