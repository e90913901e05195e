%% A key-value store behind an asynchronous NIF: each call submits to the pool of
%% "Eleveldb" threads and waits for the answer, which comes as a message.
-module(eleveldb).
-export([open/0, get/3, write/3, range/4, pool_stats/0]).
-on_load(load/0).

-define(THREADS, 71). % as many as observed on a VerneMQ node

load() ->
    ok = erlang:load_nif(filename:join(filename:dirname(code:which(?MODULE)), "eleveldb_nif"), 0),
    start_pool(?THREADS).

%% get(Db, Key, Workload) -> {ok, Value} | not_found
get(Db, Key, Workload) ->
    Ref = make_ref(),
    ok = async_get(Db, Ref, Key, Workload),
    await(Ref).

%% write(Db, [{put, Key, Value} | {delete, Key}], Workload) -> ok
write(Db, Operations, Workload) ->
    Ref = make_ref(),
    ok = async_write(Db, Ref, Operations, Workload),
    await(Ref).

%% range(Db, From, Count, Workload) -> [{Key, Value}], sorted, at most Count from From on.
range(Db, From, Count, Workload) ->
    Ref = make_ref(),
    ok = async_range(Db, Ref, From, Workload, Count),
    await(Ref).

await(Ref) ->
    receive {Ref, Result} -> Result end.

%% open() -> Db
open() -> erlang:nif_error(not_loaded).
%% pool_stats() -> [{Workload, Operations, Nanoseconds}] of the pool threads' CPU time.
pool_stats() -> erlang:nif_error(not_loaded).

async_get(_Db, _Ref, _Key, _Workload) -> erlang:nif_error(not_loaded).
async_write(_Db, _Ref, _Operations, _Workload) -> erlang:nif_error(not_loaded).
async_range(_Db, _Ref, _From, _Workload, _Count) -> erlang:nif_error(not_loaded).
start_pool(_Threads) -> erlang:nif_error(not_loaded).
