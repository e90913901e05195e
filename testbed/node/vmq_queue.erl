%% The queue of one client: online (a session takes its messages), offline,
%% wait_for_offline (the session was told to go), drain (its messages move to
%% another node). Events that a state does not know are logged, not served.
-module(vmq_queue).
-behaviour(gen_fsm).
-compile(nowarn_deprecated_function).
-include("testbed.hrl").
-export([start_link/2, add_session/3, cleanup/2, migrate/2, enqueue/3, enqueue_many/2, active/2, notify/2]).
-export([init/1, online/2, online/3, offline/2, offline/3, wait_for_offline/2, wait_for_offline/3, drain/2, drain/3]).
-export([handle_event/3, handle_sync_event/4, handle_info/3, terminate/3, code_change/4]).

-define(MAX_BACKLOG, 1000).
-define(DRAIN_RETRY, 100).
-define(DRAIN_RETRIES, 10).
-define(DRAIN_TIME, 100). % a drained queue waits so long for messages still on their way

-record(queue, {
    id, clean,
    session = none,            % {Pid, Monitor, notify | told | passive}
    backlog = queue:new(),
    waiting = none,            % what wait_for_offline waits for: {add_session, ..} | {cleanup, From} | {migrate, Node, From}
    drain = none,              % {Ref, Node, From, RetriesLeft}
    timer = none               % of the next attempt to drain
}).

start_link(SubscriberId, Clean) -> gen_fsm:start_link(?MODULE, [SubscriberId, Clean], []).

%% add_session, cleanup and migrate return ok or {error, Reason}.
add_session(Queue, SessionPid, Opts) -> sync(Queue, {add_session, SessionPid, Opts}).
cleanup(Queue, Reason) -> sync(Queue, {cleanup, Reason}).
migrate(Queue, Node) -> sync(Queue, {migrate, Node}).

enqueue(Queue, Message, Workload) -> gen_fsm:send_event(Queue, {enqueue, Message, Workload}).
active(Queue, SessionPid) -> gen_fsm:send_event(Queue, {change_state, active, SessionPid}).
notify(Queue, SessionPid) -> gen_fsm:send_event(Queue, {change_state, notify, SessionPid}).

%% enqueue_many takes the messages of a queue that is drained on another node.
enqueue_many(Queue, Messages) -> sync(Queue, {enqueue_many, Messages}).

sync(Queue, Event) ->
    try gen_fsm:sync_send_event(Queue, Event, infinity)
    catch exit:_ -> {error, not_ready}
    end.

init([SubscriberId, Clean]) ->
    testbed_truth:be('vmq_queue:init/1', client_churn),
    vmq_metrics:incr(queue_setup, 1),
    {ok, offline, #queue{id = SubscriberId, clean = Clean}}.

%% ---- offline ----

offline({add_session, Pid, Opts}, _From, Queue) ->
    testbed_truth:work(client_churn, add_session),
    {reply, ok, online, attach(Pid, Opts, Queue)};
offline({cleanup, _}, From, Queue) ->
    testbed_truth:work(client_churn, cleanup),
    gone(From, Queue);
offline({migrate, Node}, From, Queue) ->
    testbed_truth:work(client_churn, migrate),
    start_drain(Node, From, Queue);
offline({enqueue_many, Messages}, _From, Queue) ->
    {reply, ok, offline, store_many(Messages, Queue)}.

offline(Event, Queue) -> {next_state, offline, store(Event, Queue)}.

%% ---- online ----

online({add_session, Pid, Opts}, From, Queue) ->
    testbed_truth:work(client_churn, add_session),
    {next_state, wait_for_offline, disconnect({add_session, Pid, Opts, From}, session_taken_over, Queue)};
online({cleanup, Reason}, From, Queue) ->
    testbed_truth:work(client_churn, cleanup),
    {next_state, wait_for_offline, disconnect({cleanup, From}, Reason, Queue)};
online({migrate, Node}, From, Queue) ->
    testbed_truth:work(client_churn, migrate),
    {next_state, wait_for_offline, disconnect({migrate, Node, From}, session_taken_over, Queue)};
online({enqueue_many, Messages}, _From, Queue) ->
    {reply, ok, online, tell(store_many(Messages, Queue))}.

online({enqueue, _, _} = Event, Queue) ->
    {next_state, online, tell(store(Event, Queue))};
online({change_state, active, Pid}, #queue{session = {Pid, Monitor, _}, backlog = Backlog} = Queue) ->
    testbed_truth:work(message_routing, change_state),
    Pid ! {mail, self(), queue:to_list(Backlog)},
    {next_state, online, Queue#queue{session = {Pid, Monitor, passive}, backlog = queue:new()}};
online({change_state, notify, Pid}, #queue{session = {Pid, Monitor, _}} = Queue) ->
    testbed_truth:work(message_routing, change_state),
    {next_state, online, tell(Queue#queue{session = {Pid, Monitor, notify}})};
online(_, Queue) ->
    {next_state, online, Queue}.

%% ---- wait_for_offline ----

wait_for_offline({add_session, _, _}, _From, Queue) ->
    testbed_truth:work(client_churn, add_session),
    {reply, {error, not_ready}, wait_for_offline, Queue};
wait_for_offline({enqueue_many, Messages}, _From, Queue) ->
    {reply, ok, wait_for_offline, store_many(Messages, Queue)};
wait_for_offline(Event, _From, Queue) -> unknown(Event, wait_for_offline, Queue).

wait_for_offline(Event, Queue) -> {next_state, wait_for_offline, store(Event, Queue)}.

%% ---- drain ----

drain({add_session, _, _}, _From, Queue) ->
    testbed_truth:work(client_churn, add_session),
    {reply, {error, draining}, drain, Queue};
drain({enqueue_many, Messages}, _From, Queue) ->
    {reply, ok, drain, store_many(Messages, Queue)};
drain(Event, _From, Queue) -> unknown(Event, drain, Queue).

drain(drain_retry, #queue{drain = {_, Node, From, Retries}} = Queue) ->
    testbed_truth:work(client_churn, drain_retry),
    send_backlog(Node, From, Retries - 1, Queue);
drain(drained, #queue{drain = {_, _, From, _}} = Queue) ->
    testbed_truth:work(client_churn, drained),
    gone(From, Queue);
drain(Event, Queue) -> {next_state, drain, store(Event, Queue)}.

start_drain(Node, From, Queue) -> send_backlog(Node, From, ?DRAIN_RETRIES, Queue).

send_backlog(Node, From, 0, #queue{id = Id} = Queue) ->
    ?ERROR("can't drain queue '~p' for [~p][~p] due to ~p", [Id, self(), Node, retries_exhausted]),
    gone(From, Queue);
send_backlog(Node, From, Retries, #queue{id = Id, backlog = Backlog} = Queue) ->
    Ref = vmq_cluster:remote_enqueue_async(Node, Id, queue:to_list(Backlog)),
    Timer = gen_fsm:send_event_after(?DRAIN_RETRY, drain_retry),
    {next_state, drain, Queue#queue{drain = {Ref, Node, From, Retries}, timer = Timer}}.

%% ---- messages ----

handle_info({'DOWN', Monitor, process, _, _}, State, #queue{session = {_, Monitor, _}} = Queue) ->
    testbed_truth:work(client_churn, 'DOWN'),
    handle_session_down(State, Queue#queue{session = none});
handle_info({Ref, Result}, drain, #queue{drain = {Ref, Node, _, _}, timer = Timer, id = Id} = Queue) ->
    testbed_truth:work(client_churn, remote_enqueue),
    case Result of
        ok ->
            _ = gen_fsm:cancel_timer(Timer),
            gen_fsm:send_event_after(?DRAIN_TIME, drained),
            {next_state, drain, Queue#queue{backlog = queue:new()}};
        {error, Reason} ->
            ?WARNING("drain queue '~p' for [~p][~p] remote_enqueue failed due to ~p", [Id, self(), Node, Reason]),
            {next_state, drain, Queue}
    end;
handle_info(_, State, Queue) ->
    {next_state, State, Queue}.

handle_session_down(online, #queue{clean = true, id = Id} = Queue) ->
    vmq_reg:delete_subscriptions(Id),
    gone(none, Queue);
handle_session_down(online, Queue) ->
    {next_state, offline, Queue};
handle_session_down(wait_for_offline, #queue{waiting = Waiting} = Queue) ->
    case Waiting of
        {add_session, Pid, Opts, From} ->
            gen_fsm:reply(From, ok),
            {next_state, online, attach(Pid, Opts, Queue#queue{waiting = none})};
        {cleanup, From} -> gone(From, Queue);
        {migrate, Node, From} -> start_drain(Node, From, Queue#queue{waiting = none})
    end.

%% ---- what the states share ----

attach(Pid, #{clean := Clean}, #queue{backlog = Backlog} = Queue) ->
    Kept = case Clean of true -> queue:new(); false -> Backlog end,
    tell(Queue#queue{clean = Clean, session = {Pid, monitor(process, Pid), notify}, backlog = Kept}).

disconnect(Waiting, Reason, #queue{session = {Pid, _, _}} = Queue) ->
    Pid ! {disconnect, Reason},
    vmq_metrics:incr(session_take_overs, 1),
    Queue#queue{waiting = Waiting}.

%% gone ends the queue; the table forgets it before the caller goes on.
gone(From, #queue{id = Id} = Queue) ->
    vmq_queue_sup_sup:gone(Id, self()),
    vmq_metrics:incr(queue_teardown, 1),
    From =/= none andalso gen_fsm:reply(From, ok),
    {stop, normal, Queue}.

unknown(Event, State, Queue) ->
    testbed_truth:work(client_churn, unknown_event),
    ?ERROR("got unknown sync event in ~s state ~0p", [State, Event]),
    vmq_metrics:incr(unknown_sync_events, 1),
    {reply, {error, State}, State, Queue}.

store({enqueue, Message, Workload}, #queue{backlog = Backlog, session = Session, clean = Clean} = Queue) ->
    testbed_truth:work(Workload, enqueue),
    case queue:len(Backlog) < ?MAX_BACKLOG andalso (Session =/= none orelse not Clean) of
        true -> Queue#queue{backlog = queue:in(Message, Backlog)};
        false -> vmq_metrics:incr(queue_message_drop, 1), Queue
    end;
store(_, Queue) -> Queue.

store_many(Messages, Queue) ->
    testbed_truth:work(client_churn, enqueue_many),
    lists:foldl(fun(Message, Q) -> store({enqueue, Message, client_churn}, Q) end, Queue, Messages).

%% tell says once that there is mail; the session then asks for it.
tell(#queue{session = {Pid, Monitor, notify}, backlog = Backlog} = Queue) ->
    case queue:is_empty(Backlog) of
        true -> Queue;
        false -> Pid ! {mail, self(), new_data}, Queue#queue{session = {Pid, Monitor, told}}
    end;
tell(Queue) -> Queue.

handle_event(_, State, Queue) -> {next_state, State, Queue}.
handle_sync_event(_, _From, State, Queue) -> {reply, {error, unknown}, State, Queue}.
terminate(_, _, _) -> ok.
code_change(_, State, Queue, _) -> {ok, State, Queue}.
