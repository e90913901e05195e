%% Accepts connections of one listener and hands them to its connection supervisor.
-module(ranch_acceptor).
-export([start_link/4, init/4]).

%% Kind is the workload of accepting on this listener.
start_link(Ref, Listen, ConnsSup, Kind) ->
    {ok, proc_lib:spawn_link(?MODULE, init, [Ref, Listen, ConnsSup, Kind])}.

init(Ref, Listen, ConnsSup, Kind) ->
    testbed_truth:be('ranch_acceptor:init/4', Kind),
    loop(Ref, Listen, ConnsSup, Kind).

loop(Ref, Listen, ConnsSup, Kind) ->
    case gen_tcp:accept(Listen, infinity) of
        {ok, Socket} ->
            testbed_truth:work(Kind, accept),
            ok = gen_tcp:controlling_process(Socket, ConnsSup),
            ConnsSup ! {start_protocol, self(), Socket},
            receive {ConnsSup, started} -> ok end;
        {error, emfile} ->
            timer:sleep(100);
        {error, closed} ->
            exit(closed);
        {error, _} -> % the connection was gone before it was accepted
            ok
    end,
    loop(Ref, Listen, ConnsSup, Kind).
