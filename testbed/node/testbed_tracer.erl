%% The tracer NIF (erl_tracer behaviour); see native/testbed_tracer_nif.c.
-module(testbed_tracer).
-export([enabled/3, trace/5, start/2, stop/0, read/2, free/0]).
-on_load(load/0).

load() ->
    erlang:load_nif(filename:join(filename:dirname(code:which(?MODULE)), "testbed_tracer_nif"), 0).

enabled(_Tag, _State, _Tracee) -> discard.
trace(_Tag, _State, _Tracee, _Term, _Options) -> ok.

%% start(Capacity, node()) -> ok: an empty buffer for so many records.
start(_Capacity, _Node) -> erlang:nif_error(not_loaded).
%% stop() -> {Records, Dropped}.
stop() -> erlang:nif_error(not_loaded).
%% read(From, Count) -> [{Kind, Subject, Thread, {Begin, End, Cpu}, A, B, C, D}].
read(_From, _Count) -> erlang:nif_error(not_loaded).
%% free() -> ok.
free() -> erlang:nif_error(not_loaded).
