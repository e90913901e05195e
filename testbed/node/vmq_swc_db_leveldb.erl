%% The db server of one group, in front of the store's NIF: terms on this side,
%% binaries on the other.
-module(vmq_swc_db_leveldb).
-behaviour(gen_server).
-export([start_link/1]).
-export([init/1, handle_call/3, handle_cast/2]).

start_link(Group) -> gen_server:start_link({local, vmq_swc_config:name(db, Group)}, ?MODULE, [], []).

init([]) ->
    testbed_truth:be(vmq_swc_db_metaN, housekeeping),
    {ok, eleveldb:open()}.

handle_call({get, Key, {Workload, _} = Tag}, _From, Db) ->
    testbed_truth:serve(get, Tag),
    Result = case eleveldb:get(Db, Key, Workload) of
                 {ok, Binary} -> {ok, binary_to_term(Binary)};
                 not_found -> not_found
             end,
    {reply, Result, Db};
handle_call({write, Operations, {Workload, _} = Tag}, _From, Db) ->
    testbed_truth:serve(write, Tag),
    Encoded = [case Op of {put, Key, Term} -> {put, Key, term_to_binary(Term)}; Delete -> Delete end || Op <- Operations],
    Result = eleveldb:write(Db, Encoded, Workload),
    {reply, Result, Db};
handle_call({range, From, Count, {Workload, _} = Tag}, _From, Db) ->
    testbed_truth:serve(range, Tag),
    Result = [{Key, binary_to_term(Binary)} || {Key, Binary} <- eleveldb:range(Db, From, Count, Workload)],
    {reply, Result, Db}.

handle_cast(_, Db) -> {noreply, Db}.
