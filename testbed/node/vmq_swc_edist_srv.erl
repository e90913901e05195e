%% Transport of one group over the Erlang distribution. Requests name a function
%% to apply; each is run by a process of its own. Anti-entropy calls, live
%% replication casts: the same destination for both.
-module(vmq_swc_edist_srv).
-behaviour(gen_server).
-export([start_link/1, call/4, cast/4]).
-export([init/1, handle_call/3, handle_cast/2]).

start_link(Group) -> gen_server:start_link({local, vmq_swc_config:name(edist, Group)}, ?MODULE, [Group], []).

%% call(Group, Peer, F, Args): vmq_swc_store:F(Args...) on the peer.
call(Group, Peer, F, Args) ->
    To = {vmq_swc_config:name(edist, Group), Peer},
    Request = {apply, vmq_swc_store, F, Args},
    testbed_truth:sent(call, To, Request),
    gen_server:call(To, Request, infinity).

cast(Group, Peer, F, Args) ->
    To = {vmq_swc_config:name(edist, Group), Peer},
    Request = {apply, vmq_swc_store, F, Args},
    testbed_truth:sent(cast, To, Request),
    gen_server:cast(To, Request).

init([Group]) ->
    testbed_truth:be(vmq_swc_edist_metaN, housekeeping),
    {ok, Group}.

handle_call({apply, Module, Function, Args}, From, Group) ->
    rpc_apply(From, Module, Function, Args, ae_exchange),
    {noreply, Group}.

handle_cast({apply, Module, Function, Args}, Group) ->
    rpc_apply(undefined, Module, Function, Args, replication),
    {noreply, Group}.

rpc_apply(From, Module, Function, Args, Workload) ->
    testbed_truth:work(Workload, Function),
    spawn(fun() ->
              testbed_truth:be('vmq_swc_edist_srv:-rpc_apply/5-fun-0-/0', Workload),
              testbed_truth:work(Workload, Function),
              Result = apply(Module, Function, Args),
              From =/= undefined andalso reply(From, Result)
          end).

reply({Pid, _} = From, Result) ->
    testbed_truth:sent(reply, Pid, Result),
    gen_server:reply(From, Result).
