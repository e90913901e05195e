%% Starts the exchanges of one group.
-module(vmq_swc_exchange_sup).
-behaviour(supervisor).
-export([start_link/1, start_exchange/3]).
-export([init/1]).

start_link(Group) -> supervisor:start_link({local, vmq_swc_config:name(exchange_sup, Group)}, ?MODULE, [Group]).

start_exchange(Group, Peer, Limit) ->
    supervisor:start_child(vmq_swc_config:name(exchange_sup, Group), [Peer, Limit]).

init([Group]) ->
    testbed_truth:be(vmq_swc_exchange_sup_metaN, ae_exchange), % it starts exchanges and nothing else
    {ok, {#{strategy => simple_one_for_one},
          [#{id => exchange, start => {vmq_swc_exchange_fsm, start_link, [Group]}, restart => temporary}]}}.
