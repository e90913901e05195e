%% The metadata store: its groups and what they share.
-module(vmq_swc_sup).
-behaviour(supervisor).
-export([start_link/0]).
-export([init/1]).

start_link() -> supervisor:start_link({local, ?MODULE}, ?MODULE, []).

init([]) ->
    vmq_swc_config:init(),
    {ok, {#{},
          [#{id => Module, start => {Module, start_link, []}} || Module <- [vmq_swc_metrics, vmq_swc_peer_service_gossip]] ++
          [#{id => Group, start => {vmq_swc_store_sup, start_link, [Group]}, type => supervisor} || Group <- vmq_swc_config:groups()]}}.
