%% What the captures of both nodes saw, in the form that is printed: sums by
%% workload first, then the rows they are made of, largest first.
-module(testbed_truth_report).
-export([add/2]).

-define(WORKLOADS, [ae_exchange, client_churn, replication, message_routing, housekeeping]).

%% add puts each node's truth into its figures. What the connection's port reads
%% is apportioned as the time is that the peer's port took to write it.
add([FiguresA, FiguresB], [A, B]) ->
    [FiguresA#{truth => report(FiguresA, A, B)}, FiguresB#{truth => report(FiguresB, B, A)}].

report(#{cpu := #{seconds := Cpu}}, #{sent := Sent, native := Native} = Capture, #{processes := PeerRows}) ->
    Written = sum([received(Row) || #{kind := distribution_port, workload := W} = Row <- PeerRows, W =/= unmarked], nanoseconds),
    Rows = lists:flatmap(fun(Row) -> apportion(Row, Written) end, maps:get(processes, Capture)),
    Scheduled = sum(Rows, nanoseconds),
    Pool = sum(Native, nanoseconds),
    Workloads = [begin
                     S = maps:get(W, Scheduled, 0) / 1.0e9,
                     N = maps:get(W, Pool, 0) / 1.0e9,
                     #{workload => W, on_scheduler_seconds => S, native_seconds => N, seconds => S + N}
                 end || W <- lists:usort(?WORKLOADS ++ maps:keys(Scheduled) ++ maps:keys(Pool))],
    Attributed = lists:sum([S || #{seconds := S} <- Workloads]),
    Bytes = sum(Sent, bytes),
    Messages = sum(Sent, messages),
    #{schema => <<"testbed.truth/1">>, records => maps:get(records, Capture), dropped => maps:get(dropped, Capture), odd => maps:get(odd, Capture), overhead => maps:get(overhead, Capture),
      process_cpu_seconds => Cpu, attributed_seconds => Attributed, vm_seconds => Cpu - Attributed,
      workloads => [W#{share => share(S, Attributed)} || #{seconds := S} = W <- Workloads],
      native => Native, rows => largest(Rows, nanoseconds),
      sent => #{workloads => [#{workload => W, messages => maps:get(W, Messages), bytes => N, share => share(N, lists:sum(maps:values(Bytes)))}
                              || {W, N} <- maps:to_list(Bytes)],
                rows => largest(Sent, bytes)}}.

%% received: a peer's broadcast of its client's write is replication here.
received(#{request := broadcast} = Row) -> Row#{workload => replication};
received(Row) -> Row.

apportion(#{kind := distribution_port, workload := unmarked, nanoseconds := Time} = Row, Written) when map_size(Written) > 0 ->
    Total = lists:sum(maps:values(Written)),
    [Row#{workload => W, request => read, nanoseconds => Time * T div Total} || {W, T} <- maps:to_list(Written)];
apportion(Row, _) -> [Row].

sum(Rows, Figure) ->
    lists:foldl(fun(#{workload := W} = Row, Sums) -> Sums#{W => maps:get(W, Sums, 0) + maps:get(Figure, Row)} end, #{}, Rows).

share(_, Total) when Total == 0 -> 0.0;
share(Part, Total) -> Part / Total.

largest(Rows, Figure) -> lists:sort(fun(A, B) -> maps:get(Figure, A) >= maps:get(Figure, B) end, Rows).
