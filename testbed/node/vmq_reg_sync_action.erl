%% Runs one registration, in a process on the node that asked for it, and passes
%% the result to the waiting session.
-module(vmq_reg_sync_action).
-behaviour(gen_server).
-export([start_link/6]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(TIMEOUT, 30000).

start_link(Sync, Key, From, Fun, Owner, Tag) ->
    gen_server:start_link(?MODULE, [Sync, Key, From, Fun, Owner, Tag], []).

init([Sync, Key, From, Fun, Owner, {Workload, _} = Tag]) ->
    testbed_truth:be('vmq_reg_sync_action:init/1', Workload),
    Self = self(),
    Work = fun() ->
               testbed_truth:be('vmq_reg_sync_action:-init/1-fun-0-/0', Workload),
               testbed_truth:serve(register_subscriber, Tag),
               Result = {result, Fun()},
               testbed_truth:sent(cast, Self, Result),
               gen_server:cast(Self, Result)
           end,
    testbed_truth:sent(spawn, {any, Owner}, Work),
    {ok, {Sync, Key, From, spawn_link(Owner, Work)}, ?TIMEOUT}.

handle_call(_, _, State) -> {reply, ok, State}.

handle_cast({result, Result}, {Sync, Key, {Session, _} = From, _} = State) ->
    testbed_truth:work(client_churn, result),
    testbed_truth:sent(reply, Session, Result),
    gen_server:reply(From, Result),
    vmq_reg_sync:done(Sync, Key),
    {stop, normal, State}.

handle_info(timeout, {Sync, Key, From, Worker} = State) ->
    testbed_truth:work(client_churn, timeout),
    unlink(Worker),
    exit(Worker, kill),
    gen_server:reply(From, {error, action_timeout}),
    vmq_reg_sync:done(Sync, Key),
    {stop, normal, State};
handle_info(_, State) -> {noreply, State}.
