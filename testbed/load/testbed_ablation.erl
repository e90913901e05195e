%% Truth by ablation: the CPU of the idle system, of each load alone, and of all
%% of them together, from /proc. While the machine is not saturated the loads add
%% up, so each load's part of the mix is what it costs alone.
-module(testbed_ablation).
-export([run/4]).

run(Nodes, Loads, Context, Scenario) ->
    Idle = measure(Nodes, [], Context),
    Alone = [{Load, Rate, measure(Nodes, [{Load, Rate}], Context)} || {Load, Rate} <- Loads],
    Mix = measure(Nodes, Loads, Context),
    Costs = [{Load, [max(0.0, L - I) || {L, I} <- lists:zip(Cpu, Idle)]} || {Load, _, Cpu} <- Alone],
    Sums = [lists:sum([lists:nth(N, Cost) || {_, Cost} <- Costs]) || N <- lists:seq(1, length(Nodes))],
    #{event => result, schema => <<"testbed.ablation/1">>, scenario => Scenario,
      loads => [#{load => Load, rate => Rate, workloads => workloads(Load)} || {Load, Rate} <- Loads],
      nodes => [node_result(N, Node, Idle, Costs, Sums, Mix) || {N, Node} <- lists:zip(lists:seq(1, length(Nodes)), Nodes)]}.

%% Which of the profiler's workloads a load causes.
workloads(ae) -> [ae_exchange];
workloads(repair) -> [ae_exchange];
workloads(churn) -> [client_churn, replication];
workloads(connects) -> [client_churn, replication];
workloads(sockets) -> [client_churn];
workloads(publish) -> [message_routing].

%% measure returns each node's CPU seconds per second.
measure(Nodes, Loads, Context) ->
    #{seconds := Seconds, nodes := Results} = testbed_load:window(Nodes, Loads, Context, false),
    [Cpu / Seconds || #{cpu := #{seconds := Cpu}} <- Results].

node_result(N, #{name := Name, pid := Pid}, Idle, Costs, Sums, Mix) ->
    Sum = lists:nth(N, Sums),
    #{name => Name, pid => Pid, idle_cores => lists:nth(N, Idle), mix_cores => lists:nth(N, Mix), sum_cores => Sum + lists:nth(N, Idle),
      loads => [#{load => Load, cores => lists:nth(N, Cost), share => share(lists:nth(N, Cost), Sum)} || {Load, Cost} <- Costs]}.

share(_, Sum) when Sum == 0 -> 0.0;
share(Cost, Sum) -> Cost / Sum.
