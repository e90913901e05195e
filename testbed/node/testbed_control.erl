%% What the load generator asks of a node, over a local socket in the node's
%% directory: not over TCP or the distribution, so that neither shows in what is
%% being observed.
-module(testbed_control).
-behaviour(gen_server).
-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

init([]) ->
    testbed_truth:be(?MODULE, testbed),
    process_flag(trap_exit, true),
    Path = filename:join(testbed_config:get(directory), "control"),
    _ = file:delete(Path),
    {ok, Listen} = gen_tcp:listen(0, [local, {ifaddr, {local, Path}}, binary, {packet, 4}, {active, false}]),
    {ok, spawn_link(fun() -> accept(Listen) end)}.

handle_call(_, _, State) -> {reply, ok, State}.
handle_cast(_, State) -> {noreply, State}.
handle_info({'EXIT', Acceptor, Reason}, Acceptor) -> {stop, Reason, Acceptor};
handle_info(_, State) -> {noreply, State}.

accept(Listen) ->
    testbed_truth:be(?MODULE, testbed),
    {ok, Socket} = gen_tcp:accept(Listen),
    serve(Socket),
    accept(Listen).

%% One client at a time: {packet, 4} terms, one answer for each request.
serve(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Request} ->
            testbed_truth:work(testbed, control),
            Answer = try {ok, answer(binary_to_term(Request))}
                     catch Class:Reason:Stack -> {error, {Class, Reason, Stack}}
                     end,
            _ = gen_tcp:send(Socket, term_to_binary(Answer)),
            serve(Socket);
        {error, _} ->
            gen_tcp:close(Socket)
    end.

answer(info) -> testbed_node:info();
answer(counters) -> vmq_metrics:all();
answer({configure, Sync}) -> each_group(fun(Group) -> vmq_swc_store:configure(Group, Sync) end);
answer({seed, What, Count}) -> each_group(fun(Group) -> vmq_swc_store:seed(Group, What, Count) end);
answer(settled) -> vmq_reg_trie:wait();
answer({traffic, Calls, Casts, Bytes}) -> [Peer] = nodes(), testbed_echo:traffic(Peer, Calls, Casts, Bytes);
answer({capture, start}) -> testbed_capture:start();
answer({capture, stop}) -> testbed_capture:stop();
answer({capture, result}) -> testbed_capture:result();
answer({accounting, On}) -> erlang:system_flag(microstate_accounting, On);
answer(accounting) -> microstates();
answer(distribution) ->
    [connection(Node, Controller) || {Node, Controller} <- erlang:system_info(dist_ctrl)].

%% Bytes and packets on the connection's socket; with TLS the VM knows packets only.
connection(Node, Port) when is_port(Port) ->
    {ok, Stats} = inet:getstat(Port, [send_oct, send_cnt, recv_oct, recv_cnt]),
    [Sent, SentPackets, Received, ReceivedPackets] = [proplists:get_value(Item, Stats) || Item <- [send_oct, send_cnt, recv_oct, recv_cnt]],
    #{peer => Node, sent => Sent, sent_packets => SentPackets, received => Received, received_packets => ReceivedPackets};
connection(Node, _TlsProcess) ->
    {ok, Info} = net_kernel:node_info(Node),
    #{peer => Node, sent_packets => proplists:get_value(out, Info), received_packets => proplists:get_value(in, Info)}.

%% microstates() -> #{ThreadType => #{State => PerfCounterTicks}}, summed over the threads.
microstates() ->
    lists:foldl(fun(#{type := Type, counters := Counters}, Sums) ->
                    Sum = maps:get(Type, Sums, #{}),
                    Sums#{Type => maps:map(fun(State, N) -> N + maps:get(State, Sum, 0) end, Counters)}
                end, #{}, erlang:statistics(microstate_accounting)).

each_group(Fun) -> lists:foreach(fun(Group) -> ok = Fun(Group) end, vmq_swc_config:groups()).
