%% Logging in the way of lager: the caller formats, the process lager_event
%% writes. A caller that finds too many lines waiting waits for its own.
-module(lager).
-export([start_link/0, log/4, written/1]).

-define(EVENT, lager_event).
-define(ASYNC_THRESHOLD, 20).

start_link() ->
    persistent_term:put(?MODULE, counters:new(1, [atomics])),
    {ok, Pid} = gen_event:start_link({local, ?EVENT}),
    Options = testbed_config:get(log),
    ok = gen_event:add_handler(?EVENT, {lager_file_backend, console}, Options#{file => "console.log", level => info}),
    ok = gen_event:add_handler(?EVENT, {lager_file_backend, error}, Options#{file => "error.log", level => error}),
    {ok, Pid}.

%% log(Severity, {Module, Function, Arity, Line}, Format, Args) -> ok
log(Severity, Where, Format, Args) ->
    Text = io_lib:format(Format, Args),
    Event = {log, {lager_msg, self(), Where, Severity, os:timestamp(), Text, testbed_truth:tag()}},
    Waiting = persistent_term:get(?MODULE),
    counters:add(Waiting, 1, 1),
    vmq_metrics:incr(log_lines, 1),
    case counters:get(Waiting, 1) > ?ASYNC_THRESHOLD of
        true -> gen_event:sync_notify(?EVENT, Event);
        false -> gen_event:notify(?EVENT, Event)
    end.

%% written tells that so many events were handled.
written(N) -> counters:sub(persistent_term:get(?MODULE), 1, N).
