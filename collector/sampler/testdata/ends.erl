-module(ends).
-export([start/0, parent/0, child/0]).

%% Processes of which most of the work is to end: what they have is freed one by one.
start() -> spawn(?MODULE, parent, []).

parent() ->
    monitor(process, proc_lib:spawn(?MODULE, child, [])),
    receive {'DOWN', _, _, _, _} -> parent() end.

child() ->
    put(kept, [<<N:640>> || N <- lists:seq(1, 2000)]).
