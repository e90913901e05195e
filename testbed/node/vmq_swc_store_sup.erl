%% The processes of one metadata group.
-module(vmq_swc_store_sup).
-behaviour(supervisor).
-export([start_link/1]).
-export([init/1]).

start_link(Group) -> supervisor:start_link({local, vmq_swc_config:name(store_sup, Group)}, ?MODULE, [Group]).

init([Group]) ->
    Child = fun(Module) -> #{id => Module, start => {Module, start_link, [Group]}} end,
    {ok, {#{strategy => one_for_all},
          [Child(Module) || Module <- [vmq_swc_db_leveldb, vmq_swc_exchange_sup, vmq_swc_store, vmq_swc_store_batcher,
                                       vmq_swc_edist_srv, vmq_swc_group_membership]]}}.
