%% Serialises registrations per client id. The node that does so is chosen by the
%% client id's hash, so it may be the other one.
-module(vmq_reg_sync).
-behaviour(gen_server).
-export([start_link/0, sync/3, done/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% sync runs the function on the caller's node when its turn has come and returns its result.
sync(Key, Fun, Timeout) ->
    Nodes = lists:sort([node() | nodes()]),
    Node = lists:nth(erlang:phash2(Key, length(Nodes)) + 1, Nodes),
    Request = {sync, Key, Fun, node(), testbed_truth:tag()},
    testbed_truth:sent(call, {?MODULE, Node}, Request),
    try gen_server:call({?MODULE, Node}, Request, Timeout)
    catch
        exit:{timeout, _} -> {error, action_timeout};
        exit:_ -> {error, not_ready}
    end.

done(Sync, Key) -> gen_server:cast(Sync, {done, Key, testbed_truth:tag()}).

%% State: Key => queue of {From, Fun, Owner, Tag}; the first one is running.
init([]) ->
    testbed_truth:be(?MODULE, client_churn),
    process_flag(trap_exit, true),
    {ok, {#{}, #{}}}.

handle_call({sync, Key, Fun, Owner, Tag}, From, {Waiting, Running}) ->
    testbed_truth:serve(sync, Tag),
    Job = {From, Fun, Owner, Tag},
    case Waiting of
        #{Key := Jobs} -> {noreply, {Waiting#{Key => queue:in(Job, Jobs)}, Running}};
        _ -> {noreply, start(Key, Job, {Waiting#{Key => queue:new()}, Running})}
    end.

handle_cast({done, Key, Tag}, State) ->
    testbed_truth:serve(done, Tag),
    {noreply, next(Key, State)}.

%% An action that died without being done.
handle_info({'EXIT', Action, Reason}, {Waiting, Running}) ->
    testbed_truth:work(client_churn, 'EXIT'),
    case maps:take(Action, Running) of
        {{Key, From}, Running1} when Reason =/= normal ->
            gen_server:reply(From, {error, not_ready}),
            {noreply, next(Key, {Waiting, Running1})};
        {_, Running1} -> {noreply, {Waiting, Running1}};
        error -> {noreply, {Waiting, Running}}
    end;
handle_info(_, State) -> {noreply, State}.

start(Key, {From, Fun, Owner, Tag}, {Waiting, Running}) ->
    {ok, Action} = vmq_reg_sync_action:start_link(self(), Key, From, Fun, Owner, Tag),
    {Waiting, Running#{Action => {Key, From}}}.

next(Key, {Waiting, Running}) ->
    case queue:out(maps:get(Key, Waiting)) of
        {{value, Job}, Jobs} -> start(Key, Job, {Waiting#{Key => Jobs}, Running});
        {empty, _} -> {maps:remove(Key, Waiting), Running}
    end.
