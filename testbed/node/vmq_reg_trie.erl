%% The route table: which subscribers and nodes a topic goes to. Topics with
%% wildcards are found through a trie of edges, all topics end in one table.
-module(vmq_reg_trie).
-export([start_link/0, fold/4, wait/0]).
-export([init/1, handle_call/3, handle_info/2]).

-define(EDGES, vmq_trie).           % {{Path, Word}, Count}: wildcard topics; Path is reversed
-define(SUBS, vmq_trie_subs).       % {Topic, Node, SubscriberId, QoS}

start_link() -> gen_server2:start_link(?MODULE, ?MODULE, []).

%% wait returns when all changes sent so far are in the table.
wait() -> gen_server2:call(?MODULE, wait).

%% fold runs in the caller: Fun({Node, SubscriberId, QoS}, Acc) for each subscription of the topic.
fold(_ClientId, Words, Fun, Acc) ->
    Topics = [Words | lists:delete(Words, match(Words, []))],
    lists:foldl(fun(Topic, A) ->
                    lists:foldl(fun({_, Node, SubscriberId, QoS}, B) -> Fun({Node, SubscriberId, QoS}, B) end, A, ets:lookup(?SUBS, Topic))
                end, Acc, Topics).

%% match lists the wildcard topics that match the words.
match(Words, Path) ->
    case ets:member(?EDGES, {Path, '$children'}) of
        false -> [];
        true -> match_words(Words, Path)
    end.

match_words([], Path) -> [lists:reverse(Path) || ets:member(?EDGES, {Path, '$end'})] ++ hash(Path);
match_words([Word | Rest], Path) ->
    hash(Path) ++ step(Word, Rest, Path) ++ step(<<"+">>, Rest, Path).

hash(Path) -> [lists:reverse([<<"#">> | Path]) || ets:member(?EDGES, {[<<"#">> | Path], '$end'})].

step(Word, Rest, Path) ->
    case ets:member(?EDGES, {Path, Word}) of
        true -> match_words(Rest, [Word | Path]);
        false -> []
    end.

init([]) ->
    testbed_truth:be(?MODULE, housekeeping),
    ets:new(?EDGES, [named_table, protected, {read_concurrency, true}]),
    ets:new(?SUBS, [named_table, protected, bag, {read_concurrency, true}]),
    ok = vmq_subscriber_db:subscribe(),
    vmq_subscriber_db:fold(fun(SubscriberId, Subs, _) -> change(SubscriberId, [], Subs) end, ok),
    {ok, []}.

handle_call(wait, _From, State) -> {reply, ok, State}.

handle_info({updated, {_, SubscriberId}, Old, New, Tag}, State) ->
    testbed_truth:serve(updated, Tag),
    change(SubscriberId, entries(Old), entries(New)),
    {noreply, State};
handle_info(_, State) ->
    {noreply, State}.

entries(Subs) when is_list(Subs) -> Subs;
entries(_) -> [].

change(SubscriberId, Old, New) ->
    Rows = fun(Subs) -> [{Topic, Node, SubscriberId, QoS} || {Node, _, Topics} <- Subs, {Topic, QoS} <- Topics] end,
    Before = Rows(Old),
    After = Rows(New),
    [remove(Row) || Row <- Before -- After],
    [add(Row) || Row <- After -- Before],
    ok.

add({Topic, _, _, _} = Row) ->
    ets:insert(?SUBS, Row),
    wildcard(Topic) andalso edges(Topic, [], 1).

remove({Topic, _, _, _} = Row) ->
    ets:delete_object(?SUBS, Row),
    wildcard(Topic) andalso edges(Topic, [], -1).

wildcard(Topic) -> lists:member(<<"+">>, Topic) orelse lists:member(<<"#">>, Topic).

%% edges counts the subscriptions that pass each edge; an edge without any is gone.
edges([], Path, Step) -> count({Path, '$end'}, Step);
edges([Word | Rest], Path, Step) ->
    count({Path, '$children'}, Step),
    count({Path, Word}, Step),
    edges(Rest, [Word | Path], Step).

count(Key, Step) ->
    case ets:update_counter(?EDGES, Key, {2, Step}, {Key, 0}) of
        0 -> ets:delete(?EDGES, Key);
        _ -> ok
    end.
