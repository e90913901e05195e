%% Tells the store of one group which peers there are.
-module(vmq_swc_group_membership).
-behaviour(gen_server).
-export([start_link/1, update/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

start_link(Group) -> gen_server:start_link({local, vmq_swc_config:name(group_membership, Group)}, ?MODULE, [Group], []).

update(Group) -> gen_server:call(vmq_swc_config:name(group_membership, Group), update).

init([Group]) ->
    testbed_truth:be(vmq_swc_group_membership_metaN, housekeeping),
    ok = net_kernel:monitor_nodes(true),
    {ok, Group}.

handle_call(update, _From, Group) ->
    testbed_truth:work(housekeeping, update),
    {reply, vmq_swc_store:set_peers(Group, nodes()), Group}.

handle_cast(_, Group) -> {noreply, Group}.

handle_info({Change, _Node}, Group) when Change =:= nodeup; Change =:= nodedown ->
    testbed_truth:work(housekeeping, Change),
    ok = vmq_swc_store:set_peers(Group, nodes()),
    {noreply, Group}.
