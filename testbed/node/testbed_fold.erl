%% Folds trace records into time per (process kind, request, workload, caller).
%%
%% Each scheduler thread runs one thing at a time, so a thread's open slice says
%% whose time passes on it. A process's time belongs to its last mark, with one
%% exception: a process that waited for its next message in the loop of its
%% behaviour and was scheduled in works for the message that came, so the time up
%% to the mark that follows in the same slice belongs to that mark.
%%
%% The time of a task of the connection to the other node belongs to the messages
%% that were sent since the task before: it is what writes them to the socket. If
%% there are none, it reads what the other node sent, which only that one knows.
-module(testbed_fold).
-export([new/1, event/2, result/1]).

-define(PREEMPTED, 5000). % nanoseconds by which a slice's clock is ahead of its thread's CPU time

-record(subject, {key, waited = true, pending = 0}).
-record(slice, {subject, since, begun, cpu, depth = 0, carried = [], parts = []}). % carried: keys; parts: {key or pending, nanoseconds}
-record(fold, {
    overhead,        % #{slice, mark}: nanoseconds that tracing adds to each
    subjects = #{},  % pid or port => #subject{}
    threads = #{},   % thread => #slice{} that is open, or {left, Pid, Waited}: that process was scheduled out last
    time = #{},      % key => {nanoseconds, times scheduled in, marks}
    sent = #{},      % key => {messages, bytes}
    outgoing = [],   % key of each message sent since the last task of the connection
    odd = 0          % records that fit no slice
}).

new(Overhead) -> #fold{overhead = Overhead}.

%% A port's driver: called by the process that just left this thread, or inside a
%% slice that is open, or (Where is none) scheduled as a task of its own.
event({in, Port, Thread, Clock, Where, _, _, _}, #fold{threads = Threads, subjects = Subjects} = Fold) when is_port(Port) ->
    case maps:get(Thread, Threads, none) of
        #slice{depth = Depth} = Open ->
            Fold#fold{threads = Threads#{Thread => Open#slice{depth = Depth + 1}}};
        {left, Pid, Waited} when Where =/= none -> % so the process does not wait
            S = maps:get(Pid, Subjects),
            open(Thread, Pid, Clock, Fold#fold{subjects = Subjects#{Pid => S#subject{waited = Waited}}});
        _ ->
            scheduled(Port, carrying(Thread, Port, open(Thread, Port, Clock, Fold)))
    end;
event({out, Port, Thread, Clock, _, _, _, _}, #fold{threads = Threads} = Fold) when is_port(Port) ->
    case maps:get(Thread, Threads, none) of
        #slice{depth = Depth} = Open when Depth > 0 -> Fold#fold{threads = Threads#{Thread => Open#slice{depth = Depth - 1}}};
        #slice{} = Open -> close(Open, Thread, Clock, none, Fold);
        _ -> Fold
    end;
event({in, Pid, Thread, Clock, _, _, _, _}, Fold) ->
    scheduled(Pid, open(Thread, Pid, Clock, Fold));
event({out, Pid, Thread, Clock, Module, Function, _, _}, #fold{threads = Threads, odd = Odd} = Fold) ->
    case maps:get(Thread, Threads, none) of
        #slice{subject = Pid} = Open ->
            #subject{waited = Waited} = maps:get(Pid, Fold#fold.subjects),
            #fold{subjects = Subjects} = Fold1 = close(Open, Thread, Clock, {left, Pid, Waited}, Fold),
            S = maps:get(Pid, Subjects),
            Fold1#fold{subjects = Subjects#{Pid => S#subject{waited = Waited orelse loop(Module, Function)}}};
        none -> % it ran when the capture began
            Fold;
        _ ->
            Fold#fold{threads = maps:remove(Thread, Threads), odd = Odd + 1}
    end;
event({mark, Port, Thread, Clock, Kind, Workload, _, _}, Fold) when is_port(Port) ->
    marked(Port, {Kind, Workload, port_task, none}, passed(Thread, Clock, Fold));
event({mark, Pid, Thread, Clock, Kind, Workload, Request, Caller}, Fold) ->
    marked(Pid, {Kind, Workload, Request, Caller}, passed(Thread, Clock, Fold));
event({sent, Pid, Thread, Clock, Bytes, _, _, _}, #fold{sent = Sent} = Fold) ->
    Key = key(Pid, maps:get(Pid, Fold#fold.subjects, #subject{})),
    {N, B} = maps:get(Key, Sent, {0, 0}),
    passed(Thread, Clock, Fold#fold{sent = Sent#{Key => {N + 1, B + Bytes}}, outgoing = [Key | Fold#fold.outgoing]}).

%% Functions whose receive is a server waiting for its next request.
loop(gen_server, _) -> true;
loop(gen_statem, _) -> true;
loop(gen_fsm, _) -> true;
loop(gen_event, _) -> true;
loop(_, Function) -> Function =:= loop orelse Function =:= loop_.

%% ---- slices ----

open(Thread, Subject, {_, End, Cpu}, #fold{threads = Threads, subjects = Subjects} = Fold) ->
    Fold#fold{threads = Threads#{Thread => #slice{subject = Subject, since = End, begun = End, cpu = Cpu}},
              subjects = case Subjects of #{Subject := _} -> Subjects; _ -> Subjects#{Subject => #subject{}} end}.

%% carrying gives a slice of the connection to the other node the messages that wait for it.
carrying(Thread, Port, #fold{threads = Threads, subjects = Subjects, outgoing = Outgoing} = Fold) ->
    case {Threads, Subjects} of
        {#{Thread := Open}, #{Port := #subject{key = {distribution_port, _, _, _}}}} ->
            Fold#fold{threads = Threads#{Thread => Open#slice{carried = Outgoing}}, outgoing = []};
        _ -> Fold
    end.

%% passed adds the time up to a mark to the slice; the mark's own time is no part of it.
passed(Thread, {Begin, End, _}, #fold{threads = Threads, overhead = #{mark := Overhead}} = Fold) ->
    case Threads of
        #{Thread := #slice{} = Open} ->
            Fold#fold{threads = Threads#{Thread => (part(Begin - Overhead, Open, Fold))#slice{since = End}}};
        _ -> Fold
    end.

part(Now, #slice{subject = Subject, since = Since, parts = Parts} = Open, #fold{subjects = Subjects}) ->
    Key = case maps:get(Subject, Subjects) of
              #subject{waited = true} when is_pid(Subject) -> pending;
              #subject{key = undefined} -> pending;
              #subject{key = K} -> K
          end,
    Open#slice{parts = [{Key, max(0, Now - Since)} | Parts]}.

close(Open, Thread, {Begin, _, Cpu}, Next, #fold{threads = Threads, overhead = #{slice := Overhead}} = Fold) ->
    #slice{subject = Subject, begun = Begun, cpu = Cpu0, parts = Parts, carried = Carried} = part(Begin - Overhead, Open, Fold),
    lists:foldl(fun({pending, T}, F) -> unchanged(Subject, T, F);
                   ({Key, T}, F) -> add(Key, T, 0, 0, F)
                end, Fold#fold{threads = Threads#{Thread => Next}}, carried(Carried, preempted(Begin - Begun - (Cpu - Cpu0), Parts))).

%% carried divides a slice among the messages it was for, by their number: a write
%% costs much the same for all sizes that occur here.
carried([], Parts) -> Parts;
carried(Messages, Parts) ->
    Each = lists:sum([T || {_, T} <- Parts]) div length(Messages),
    [{{distribution_port, Workload, Request, Kind}, Each} || {Kind, Workload, Request, _} <- Messages].

%% unchanged: no mark came, so the work is the same as before; if there was none in
%% this capture yet, the first will tell.
unchanged(Subject, T, #fold{subjects = Subjects} = Fold) ->
    case maps:get(Subject, Subjects) of
        #subject{key = undefined, pending = Pending} = S -> Fold#fold{subjects = Subjects#{Subject => S#subject{pending = Pending + T}}};
        #subject{key = Key} -> add(Key, T, 0, 0, Fold)
    end.

%% preempted takes time in which the thread did not run off the longest part.
preempted(Away, Parts) when Away > ?PREEMPTED ->
    [{Key, T} | Rest] = lists:reverse(lists:keysort(2, Parts)),
    [{Key, max(0, T - Away)} | Rest];
preempted(_, Parts) -> Parts.

%% marked: the subject now has this key, and what was pending had it already.
marked(Subject, Key, #fold{subjects = Subjects, threads = Threads} = Fold) ->
    #subject{pending = Pending} = S = maps:get(Subject, Subjects, #subject{}),
    Own = fun(_, #slice{subject = Who, parts = Parts} = Open) when Who =:= Subject ->
                  Open#slice{parts = [case P of {pending, T} -> {Key, T}; _ -> P end || P <- Parts]};
             (_, Open) -> Open
          end,
    add(Key, Pending, 0, 1, Fold#fold{subjects = Subjects#{Subject => S#subject{key = Key, waited = false, pending = 0}},
                                      threads = maps:map(Own, Threads)}).

scheduled(Subject, #fold{subjects = Subjects} = Fold) ->
    add(key(Subject, maps:get(Subject, Subjects)), 0, 1, 0, Fold).

key(Subject, #subject{key = undefined}) -> {unmarked_kind(Subject), unmarked, none, none};
key(_, #subject{key = Key}) -> Key.

%% unmarked_kind names what never said what it is: the VM's own processes and ports.
unmarked_kind(Port) when is_port(Port) -> port;
unmarked_kind(Pid) ->
    case process_info(Pid, registered_name) of
        {registered_name, Name} -> Name;
        _ -> process
    end.

add(Key, Nanoseconds, Scheduled, Marks, #fold{time = Time} = Fold) ->
    {T, S, M} = maps:get(Key, Time, {0, 0, 0}),
    Fold#fold{time = Time#{Key => {T + Nanoseconds, S + Scheduled, M + Marks}}}.

%% ---- what came of it ----

%% result(Fold) -> #{odd => N, processes => Rows, sent => Rows}
result(#fold{odd = Odd, sent = Sent} = Fold) ->
    #fold{time = Time} = maps:fold(fun leftover/3, Fold, Fold#fold.subjects),
    #{odd => Odd, sent => [row(Key, #{messages => N, bytes => B}) || {Key, {N, B}} <- maps:to_list(Sent)],
      processes => [row(Key, #{nanoseconds => T, scheduled => S, marks => M})
                    || {Key, {T, S, M}} <- maps:to_list(Time), T > 0 orelse M > 0]}.

row({Kind, Workload, Request, Caller}, Figures) ->
    Figures#{kind => Kind, workload => Workload, request => Request, caller => Caller}.

%% leftover books time that no mark followed.
leftover(_, #subject{pending = 0}, Fold) -> Fold;
leftover(Subject, #subject{pending = T} = S, Fold) -> add(key(Subject, S), T, 0, 0, Fold).
