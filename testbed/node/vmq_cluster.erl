%% The cluster link: publishes and migrated queues go to a peer over a TCP
%% connection of their own, not over the Erlang distribution.
-module(vmq_cluster).
-behaviour(gen_server).
-export([start_link/0, publish/2, remote_enqueue_async/3, links/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% publish hands a message to the link to the node; it is dropped if there is none.
publish(Node, Message) -> to(Node, fun(Link) -> vmq_cluster_node:publish(Link, Message) end).

%% remote_enqueue_async sends a queue's messages; {Ref, ok | {error, Reason}} comes back.
remote_enqueue_async(Node, SubscriberId, Messages) ->
    Ref = make_ref(),
    to(Node, fun(Link) -> vmq_cluster_node:enqueue_async(Link, {self(), Ref, SubscriberId, Messages}) end),
    Ref.

to(Node, Send) ->
    case ets:lookup(?MODULE, Node) of
        [{_, Link}] -> Send(Link);
        [] -> vmq_metrics:incr(cluster_message_drop, 1)
    end.

%% links lists the nodes with a link that is up.
links() -> [Node || {Node, Link} <- ets:tab2list(?MODULE), vmq_cluster_node:is_connected(Link)].

init([]) ->
    testbed_truth:be(?MODULE, housekeeping),
    process_flag(trap_exit, true),
    ets:new(?MODULE, [named_table, protected, {read_concurrency, true}]),
    ok = net_kernel:monitor_nodes(true),
    [start_node(Node) || Node <- nodes()],
    {ok, []}.

handle_call(_, _, State) -> {reply, ok, State}.
handle_cast(_, State) -> {noreply, State}.

handle_info({nodeup, Node}, State) ->
    testbed_truth:work(housekeeping, nodeup),
    start_node(Node),
    {noreply, State};
handle_info({'EXIT', Link, _}, State) ->
    testbed_truth:work(housekeeping, 'EXIT'),
    ets:match_delete(?MODULE, {'_', Link}),
    {noreply, State};
handle_info(_, State) ->
    {noreply, State}.

start_node(Node) ->
    case ets:member(?MODULE, Node) of
        true -> ok;
        false -> {ok, Link} = vmq_cluster_node:start_link(Node), ets:insert(?MODULE, {Node, Link})
    end.
