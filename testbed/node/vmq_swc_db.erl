%% Access to a group's database. Each call goes through the group's db server and
%% carries the tag of the calling process.
-module(vmq_swc_db).
-export([get/2, write/2, range/3]).

%% get(Group, Key) -> {ok, Term} | not_found
get(Group, Key) -> call(get, Group, {get, Key, testbed_truth:tag()}).

%% write(Group, [{put, Key, Term} | {delete, Key}]) -> ok
write(_Group, []) -> ok;
write(Group, Operations) -> call(write, Group, {write, Operations, testbed_truth:tag()}).

%% range(Group, From, Count) -> [{Key, Term}]
range(Group, From, Count) -> call(range, Group, {range, From, Count, testbed_truth:tag()}).

call(Operation, Group, Request) ->
    vmq_swc_metrics:timed(Operation, Group,
                          fun() -> gen_server:call(vmq_swc_config:name(db, Group), Request, infinity) end).
