%% Tells a peer each 15 s which nodes this one knows.
-module(vmq_swc_peer_service_gossip).
-behaviour(gen_server).
-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(INTERVAL, 15000).

start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

init([]) ->
    testbed_truth:be(?MODULE, housekeeping),
    erlang:send_after(?INTERVAL, self(), gossip),
    {ok, [node()]}.

handle_call(_, _, Known) -> {reply, ok, Known}.

handle_cast({receive_state, Nodes}, Known) ->
    testbed_truth:work(housekeeping, receive_state),
    {noreply, lists:usort(Known ++ Nodes)}.

handle_info(gossip, Known) ->
    testbed_truth:work(housekeeping, gossip),
    erlang:send_after(?INTERVAL, self(), gossip),
    State = {receive_state, lists:usort([node() | Known])},
    [begin testbed_truth:sent(cast, {?MODULE, Peer}, State), gen_server:cast({?MODULE, Peer}, State) end || Peer <- nodes()],
    {noreply, Known}.
