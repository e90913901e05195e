%% Supervises the connection processes of one listener: one process per socket.
-module(ranch_conns_sup).
-export([start_link/7, init/7]).

%% Kind is the workload of accepting connections; Protocol:start_link(Ref, self(), Transport, Opts).
start_link(Ref, Listen, Acceptors, Transport, Protocol, Opts, Kind) ->
    {ok, Pid} = proc_lib:start_link(?MODULE, init, [Ref, Listen, Acceptors, Transport, Protocol, Opts, Kind]),
    ok = gen_tcp:controlling_process(Listen, Pid),
    {ok, Pid}.

init(Ref, Listen, Acceptors, Transport, Protocol, Opts, Kind) ->
    testbed_truth:be('ranch_conns_sup:init/7', Kind),
    process_flag(trap_exit, true),
    [{ok, _} = ranch_acceptor:start_link(Ref, Listen, self(), Kind) || _ <- lists:seq(1, Acceptors)],
    proc_lib:init_ack({ok, self()}),
    loop({Ref, Transport, Protocol, Opts, Kind}).

loop({Ref, Transport, Protocol, Opts, Kind} = State) ->
    receive
        {start_protocol, Acceptor, Socket} ->
            testbed_truth:work(Kind, start_protocol),
            {ok, Pid} = Protocol:start_link(Ref, self(), Transport, Opts),
            case gen_tcp:controlling_process(Socket, Pid) of
                ok -> Pid ! {shoot, Ref, Socket};
                {error, _} -> gen_tcp:close(Socket), exit(Pid, kill)
            end,
            Acceptor ! {self(), started},
            loop(State);
        {'EXIT', _Pid, closed} ->
            exit(closed);
        {'EXIT', _Pid, _Reason} ->
            testbed_truth:work(Kind, 'EXIT'),
            loop(State)
    end.
