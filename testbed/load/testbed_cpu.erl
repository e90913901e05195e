%% CPU time of a process from /proc: in all, and by what its threads are named.
-module(testbed_cpu).
-export([read/1, difference/2]).

%% read(Pid) -> #{total => Seconds, threads => #{Name => Nanoseconds}}. The total is
%% utime + stime of /proc/PID/stat (10 ms ticks), the rest the threads' schedstat.
read(Pid) ->
    Proc = "/proc/" ++ integer_to_list(Pid),
    #{total => ticks(Proc) / 100, threads => threads(Proc ++ "/task")}.

%% The fields after the command's closing parenthesis: state is the first, utime and stime the 12th and 13th.
ticks(Proc) ->
    {ok, Stat} = file:read_file(Proc ++ "/stat"),
    Fields = string:lexemes(lists:last(binary:split(Stat, <<")">>, [global])), " \n"),
    binary_to_integer(lists:nth(12, Fields)) + binary_to_integer(lists:nth(13, Fields)).

threads(Directory) ->
    {ok, Names} = file:list_dir(Directory),
    lists:foldl(fun(Tid, Sums) ->
                    Path = filename:join(Directory, Tid),
                    case {file:read_file(Path ++ "/comm"), file:read_file(Path ++ "/schedstat")} of
                        {{ok, Comm}, {ok, Schedstat}} ->
                            [Run | _] = binary:split(Schedstat, <<" ">>),
                            maps:update_with(kind(string:trim(Comm)), fun(N) -> N + binary_to_integer(Run) end, binary_to_integer(Run), Sums);
                        _ -> Sums % the thread has ended
                    end
                end, #{}, Names).

%% Thread names without their numbers: N_scheduler, erts_sched_N.
kind(Comm) -> re:replace(Comm, "[0-9]+", "N", [global, {return, binary}]).

%% difference(Before, After) -> #{seconds => S, threads => #{Name => Seconds}}
difference(#{total := T0, threads := Threads0}, #{total := T1, threads := Threads1}) ->
    #{seconds => T1 - T0,
      threads => maps:filter(fun(_, S) -> S > 0.0005 end,
                             maps:map(fun(Name, N) -> (N - maps:get(Name, Threads0, 0)) / 1.0e9 end, Threads1))}.
