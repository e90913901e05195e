%% Notes each connection a load makes: sums, and one CSV line each if a file is wanted.
-module(load_log).
-export([open/1, connection/4, await/3, close/1]).

-define(COUNTERS, [finished, opened, failed, connect_sent, connack, closed_before_connack, closed_by_server, closed_by_client]).

-record(log, {counters, per_node, file}).

open(none) -> new(none);
open(Path) ->
    {ok, File} = file:open(Path, [append, delayed_write]),
    new(File).

new(File) -> #log{counters = counters:new(length(?COUNTERS), []), per_node = ets:new(?MODULE, [public]), file = File}.

%% connection notes how a connection to a node went.
connection(#log{counters = Counters, per_node = PerNode, file = File}, ClientId, #{name := Name},
           #{port := Port, connect := Connect, connack := Connack, closed_by := By}) ->
    Facts = [opened || By =/= failed] ++ [failed || By =:= failed] ++ [connect_sent || Connect] ++ [connack || Connack] ++
            [closed_before_connack || Connect, not Connack] ++ [closed_by_server || By =:= server] ++ [closed_by_client || By =:= client],
    By =/= failed andalso ets:update_counter(PerNode, Name, 1, {Name, 0}),
    File =/= none andalso
        file:write(File, io_lib:format("~s,~s,~b,~s,~s,~s~n", [ClientId, Name, Port, Connect, Connack, By])),
    [counters:add(Counters, index(Fact), 1) || Fact <- [finished | Facts]],
    ok.

%% await waits until so many connections have come to their end.
await(_, _, Left) when Left =< 0 -> timeout;
await(#log{counters = Counters} = Log, Count, Left) ->
    case counters:get(Counters, index(finished)) >= Count of
        true -> ok;
        false -> timer:sleep(50), await(Log, Count, Left - 50)
    end.

%% close returns the sums.
close(#log{counters = Counters, per_node = PerNode, file = File}) ->
    File =/= none andalso file:close(File),
    Sums = maps:from_list([{Name, counters:get(Counters, index(Name))} || Name <- ?COUNTERS]),
    Sums#{opened_at => maps:from_list(ets:tab2list(PerNode))}.

index(Name) -> index(Name, ?COUNTERS, 1).

index(Name, [Name | _], I) -> I;
index(Name, [_ | Rest], I) -> index(Name, Rest, I + 1).
