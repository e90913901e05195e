%% Truth by ablation: the CPU of the idle system, of each load alone, and of all
%% of them together, from /proc. While the machine is not saturated the loads add
%% up, so each load's part of the mix is what it costs alone.
%%
%% A second figure leaves out what the VM does for itself (waiting, polling,
%% scheduling): of each kind of VM thread only the part in which it executed
%% processes, collected garbage or ran ports, by the VM's microstate accounting.
-module(testbed_ablation).
-export([run/4]).

-define(WORK, [emulator, gc, port]). % microstates; the others are aux, check_io, other and sleep

run(Nodes, Loads, Context, Scenario) ->
    Accounting = fun(On) -> [testbed_nodes:call(Node, {accounting, On}) || Node <- Nodes] end,
    Accounting(true),
    Idle = measure(Nodes, [], Context),
    Alone = [{Load, Rate, measure(Nodes, [{Load, Rate}], Context)} || {Load, Rate} <- Loads],
    Mix = measure(Nodes, Loads, Context),
    Accounting(false),
    #{event => result, schema => <<"testbed.ablation/1">>, scenario => Scenario,
      loads => [#{load => Load, rate => Rate, workloads => workloads(Load)} || {Load, Rate} <- Loads],
      nodes => [begin
                    Costs = [{Load, above(lists:nth(N, Cost), lists:nth(N, Idle))} || {Load, _, Cost} <- Alone],
                    node_result(lists:nth(N, Nodes), lists:nth(N, Idle), Costs, lists:nth(N, Mix))
                end || N <- lists:seq(1, length(Nodes))]}.

%% Which of the profiler's workloads a load causes.
workloads(ae) -> [ae_exchange];
workloads(repair) -> [ae_exchange];
workloads(churn) -> [client_churn, replication];
workloads(connects) -> [client_churn, replication];
workloads(sockets) -> [client_churn];
workloads(publish) -> [message_routing].

%% measure returns for each node {CPU seconds per second, those of work alone}.
measure(Nodes, Loads, Context) ->
    #{seconds := Seconds, nodes := Results} = testbed_load:window(Nodes, Loads, Context#{accounting => true}, false),
    [{Cpu / Seconds, work(Threads, States) / Seconds} || #{cpu := #{seconds := Cpu, threads := Threads}, microstates := States} <- Results].

above({All, Work}, {IdleAll, IdleWork}) -> {max(0.0, All - IdleAll), max(0.0, Work - IdleWork)}.

%% work: the threads that are not the VM's work always.
work(Threads, States) ->
    maps:fold(fun(Name, Seconds, Sum) -> Sum + Seconds * working(type(Name), States) end, 0.0, Threads).

type(<<"N_scheduler">>) -> scheduler;
type(<<"erts_sched_N">>) -> scheduler;
type(<<"N_dirty_io_sch", _/binary>>) -> dirty_io_scheduler;
type(<<"erts_dios_N">>) -> dirty_io_scheduler;
type(<<"Eleveldb">>) -> native;
type(_) -> vm.

working(native, _) -> 1.0;
working(vm, _) -> 0.0;
working(Type, States) ->
    Counters = maps:without([sleep], maps:get(Type, States)),
    share(lists:sum([maps:get(State, Counters) || State <- ?WORK]), lists:sum(maps:values(Counters))).

node_result(#{name := Name, pid := Pid}, {IdleAll, IdleWork}, Costs, {MixAll, MixWork}) ->
    All = lists:sum([A || {_, {A, _}} <- Costs]),
    Work = lists:sum([W || {_, {_, W}} <- Costs]),
    #{name => Name, pid => Pid, idle_cores => IdleAll, mix_cores => MixAll, sum_cores => All + IdleAll,
      mix_work_cores => MixWork, sum_work_cores => Work + IdleWork,
      loads => [#{load => Load, cores => A, share => share(A, All), work_cores => W, work_share => share(W, Work)} || {Load, {A, W}} <- Costs]}.

share(_, Sum) when Sum == 0 -> 0.0;
share(Cost, Sum) -> Cost / Sum.
