%% Starts one node of the testbed: `erl -s testbed_node -testbed_config FILE`.
%% When it is ready the file `info.json` in its directory says what runs.
-module(testbed_node).
-behaviour(supervisor).
-export([start/0, info/0, cluster_port/0]).
-export([init/1]).

-define(ACCEPTORS, 10).
-define(PEER_TIMEOUT, 30000).

start() ->
    testbed_config:load(),
    {ok, _} = application:ensure_all_started(crypto),
    load_all(),
    vmq_metrics:init_counters(),
    keep_tables(),
    {ok, Supervisor} = supervisor:start_link({local, vmq_server_sup}, ?MODULE, []),
    unlink(Supervisor),
    case await_peer(testbed_config:get(peer), erlang:monotonic_time(millisecond) + ?PEER_TIMEOUT) of
        ok ->
            Path = filename:join(testbed_config:get(directory), "info.json"),
            ok = file:write_file(Path ++ ".new", [testbed_json:encode(info()), $\n]),
            ok = file:rename(Path ++ ".new", Path);
        timeout ->
            io:format("the peer node did not come up~n"),
            halt(1)
    end.

%% keep_tables makes the tables of testbed_truth in a process that stays.
keep_tables() ->
    Parent = self(),
    Keeper = spawn(fun() -> testbed_truth:init(), Parent ! {self(), made}, receive never -> ok end end),
    receive {Keeper, made} -> ok end.

%% load_all loads every module at once, as a release in embedded mode does.
load_all() ->
    Directories = [filename:dirname(code:which(?MODULE)) | [code:lib_dir(App) ++ "/ebin" || App <- [kernel, stdlib, crypto]]],
    ok = code:ensure_modules_loaded([list_to_atom(filename:basename(File, ".beam"))
                                     || Directory <- Directories, File <- filelib:wildcard(Directory ++ "/*.beam")]).

await_peer(Peer, Deadline) ->
    _ = net_kernel:connect_node(Peer),
    case lists:member(Peer, vmq_cluster:links()) of
        true ->
            [ok = vmq_swc_group_membership:update(Group) || Group <- vmq_swc_config:groups()],
            ok;
        false ->
            case erlang:monotonic_time(millisecond) > Deadline of
                true -> timeout;
                false -> timer:sleep(100), await_peer(Peer, Deadline)
            end
    end.

%% info tells what an observer needs to know.
info() ->
    [Name, Host] = string:split(atom_to_list(node()), "@"),
    {ok, Address} = inet:parse_address(Host),
    {port, DistributionPort, _} = erl_epmd:port_please(Name, Address),
    #{directory := Logs} = testbed_config:get(log),
    #{name => node(), pid => list_to_integer(os:getpid()), otp_release => list_to_binary(erlang:system_info(otp_release)),
      schedulers => erlang:system_info(schedulers), mqtt_port => port(mqtt), mqtts_port => port(mqtts), cluster_port => cluster_port(),
      distribution_port => DistributionPort,
      logs => [list_to_binary(filename:join(Logs, File)) || File <- ["console.log", "error.log"]]}.

cluster_port() -> port(cluster).

port(Listener) -> persistent_term:get({?MODULE, Listener}, null).

init([]) ->
    testbed_truth:be(vmq_server_sup, housekeeping),
    Worker = fun(Module) -> #{id => Module, start => {Module, start_link, []}} end,
    {ok, {#{intensity => 0},
          [Worker(Module) || Module <- [lager, vmq_metrics, vmq_swc_sup, vmq_queue_sup_sup, vmq_reg_trie, vmq_reg_mgr, vmq_reg_sync,
                                        vmq_cluster, vmq_systree, testbed_echo]] ++
          [listener(mqtt, tcp, vmq_ranch, #{}, client_churn), listener(cluster, tcp, vmq_cluster_com, #{}, housekeeping)] ++
          tls_listener(testbed_config:get(tls)) ++
          [Worker(testbed_control)]}}.

tls_listener(none) -> [];
tls_listener(#{certfile := _, keyfile := _} = Files) ->
    {ok, _} = application:ensure_all_started(ssl),
    [listener(mqtts, tls, vmq_ranch, #{tls => maps:to_list(Files)}, client_churn)].

%% Every listener is on the loopback address and on a port the kernel chooses.
listener(Name, Transport, Protocol, Opts, Kind) ->
    {ok, Listen} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, false}, {backlog, 4096}, {nodelay, true}, {reuseaddr, true}]),
    {ok, Port} = inet:port(Listen),
    persistent_term:put({?MODULE, Name}, Port),
    testbed_truth:port(Listen, listener_port, Kind),
    #{id => Name, start => {ranch_conns_sup, start_link, [Name, Listen, ?ACCEPTORS, Transport, Protocol, Opts, Kind]}}.
