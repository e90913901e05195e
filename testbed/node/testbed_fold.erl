%% Folds trace records into time per (process kind, request, workload, caller).
%%
%% Each scheduler thread runs one thing at a time, so a thread's open interval
%% says whose time passes on it, and only one thread's clock is ever looked at.
%% A process's time belongs to its last mark, with one exception: a process that
%% waited for its next message in the loop of its behaviour and was scheduled in
%% works for the message that came, so the time up to the mark that follows
%% belongs to that mark.
-module(testbed_fold).
-export([new/0, event/2, result/1]).

-record(subject, {key, waited = true, pending = 0}).
-record(interval, {subject, since, depth = 0}).
-record(fold, {
    subjects = #{},  % pid or port => #subject{}
    threads = #{},   % thread => #interval{} that is open, or {left, Pid, Waited}: that process was scheduled out last
    time = #{},      % key => {nanoseconds, times scheduled in, marks}
    sent = #{},      % key => {messages, bytes}
    odd = 0          % records that fit no interval
}).

new() -> #fold{}.

%% A port's driver: called by the process that just left this thread, or inside a
%% slice that is open, or (Where is none) scheduled as a task of its own.
event({in, Port, Thread, _, End, Where, _, _, _}, #fold{threads = Threads, subjects = Subjects} = Fold) when is_port(Port) ->
    case maps:get(Thread, Threads, none) of
        #interval{depth = Depth} = Open ->
            Fold#fold{threads = Threads#{Thread => Open#interval{depth = Depth + 1}}};
        {left, Pid, Waited} when Where =/= none -> % so the process does not wait
            S = maps:get(Pid, Subjects),
            open(Thread, Pid, End, Fold#fold{subjects = Subjects#{Pid => S#subject{waited = Waited}}});
        _ ->
            scheduled(Port, open(Thread, Port, End, Fold))
    end;
event({out, Port, Thread, Begin, _, _, _, _, _}, #fold{threads = Threads} = Fold) when is_port(Port) ->
    case maps:get(Thread, Threads, none) of
        #interval{depth = Depth} = Open when Depth > 0 -> Fold#fold{threads = Threads#{Thread => Open#interval{depth = Depth - 1}}};
        #interval{} = Open -> close(Open, Thread, Begin, none, Fold);
        _ -> Fold
    end;
event({in, Pid, Thread, _, End, _, _, _, _}, Fold) ->
    scheduled(Pid, open(Thread, Pid, End, Fold));
event({out, Pid, Thread, Begin, _, Module, Function, _, _}, #fold{threads = Threads, odd = Odd} = Fold) ->
    case maps:get(Thread, Threads, none) of
        #interval{subject = Pid} = Open ->
            #fold{subjects = Subjects} = Fold,
            #subject{waited = Waited} = maps:get(Pid, Subjects),
            #fold{subjects = Subjects1} = Fold1 = close(Open, Thread, Begin, {left, Pid, Waited}, Fold),
            S = maps:get(Pid, Subjects1),
            Fold1#fold{subjects = Subjects1#{Pid => S#subject{waited = Waited orelse loop(Module, Function)}}};
        none -> % it ran when the capture began
            Fold;
        _ ->
            Fold#fold{threads = maps:remove(Thread, Threads), odd = Odd + 1}
    end;
event({mark, Port, _, _, _, Kind, Workload, _, _}, Fold) when is_port(Port) ->
    marked(Port, {Kind, Workload, port_task, none}, 0, Fold);
event({mark, Pid, Thread, Begin, End, Kind, Workload, Request, Caller}, #fold{threads = Threads} = Fold) ->
    Key = {Kind, Workload, Request, Caller},
    case maps:get(Thread, Threads, none) of
        #interval{subject = Pid, since = Since} = Open ->
            marked(Pid, Key, Begin - Since, Fold#fold{threads = Threads#{Thread => Open#interval{since = End}}});
        _ ->
            marked(Pid, Key, 0, Fold)
    end;
event({send, Pid, Thread, Begin, End, Bytes, _, _, _}, #fold{subjects = Subjects, sent = Sent, threads = Threads} = Fold) ->
    Key = key(Pid, maps:get(Pid, Subjects, #subject{})),
    {N, B} = maps:get(Key, Sent, {0, 0}),
    Fold#fold{sent = Sent#{Key => {N + 1, B + Bytes}},
              threads = case Threads of % measuring the message is not the sender's time
                            #{Thread := #interval{since = Since} = Open} -> Threads#{Thread => Open#interval{since = Since + End - Begin}};
                            _ -> Threads
                        end}.

%% Functions whose receive is a server waiting for its next request.
loop(gen_server, _) -> true;
loop(gen_statem, _) -> true;
loop(gen_fsm, _) -> true;
loop(gen_event, _) -> true;
loop(_, Function) -> Function =:= loop orelse Function =:= loop_.

open(Thread, Subject, Now, #fold{threads = Threads, subjects = Subjects} = Fold) ->
    Fold#fold{threads = Threads#{Thread => #interval{subject = Subject, since = Now}},
              subjects = case Subjects of #{Subject := _} -> Subjects; _ -> Subjects#{Subject => #subject{}} end}.

close(#interval{subject = Subject, since = Since}, Thread, Now, Next, #fold{threads = Threads, subjects = Subjects} = Fold) ->
    Fold1 = Fold#fold{threads = Threads#{Thread => Next}},
    case maps:get(Subject, Subjects) of
        #subject{waited = true, pending = Pending} = S ->
            Fold1#fold{subjects = Subjects#{Subject => S#subject{pending = Pending + Now - Since}}};
        S ->
            add(key(Subject, S), Now - Since, 0, 0, Fold1)
    end.

%% marked: the subject now has this key; Passed is its time since the last record.
marked(Subject, Key, Passed, #fold{subjects = Subjects} = Fold) ->
    #subject{waited = Waited, pending = Pending} = S = maps:get(Subject, Subjects, #subject{}),
    Fold1 = Fold#fold{subjects = Subjects#{Subject => S#subject{key = Key, waited = false, pending = 0}}},
    case Waited of
        true -> add(Key, Pending + Passed, 0, 1, Fold1);
        false -> add(Key, 0, 0, 1, add(key(Subject, S), Passed, 0, 0, Fold1))
    end.

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
