%% Known traffic over the distribution: so many calls and casts of a given size.
-module(testbed_echo).
-behaviour(gen_server).
-export([start_link/0, traffic/4]).
-export([init/1, handle_call/3, handle_cast/2]).

start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% traffic makes all calls, then all casts, and returns when the peer has them all.
traffic(Peer, Calls, Casts, Bytes) ->
    testbed_truth:be('testbed_echo:traffic/4', testbed),
    Payload = binary:copy(<<"x">>, Bytes),
    To = {?MODULE, Peer},
    [begin testbed_truth:sent(call, To, {echo, Payload}), ok = gen_server:call(To, {echo, Payload}, infinity) end || _ <- lists:seq(1, Calls)],
    [begin testbed_truth:sent(cast, To, {tell, Payload}), ok = gen_server:cast(To, {tell, Payload}) end || _ <- lists:seq(1, Casts)],
    ok = gen_server:call({?MODULE, Peer}, flush, infinity).

init([]) ->
    testbed_truth:be(?MODULE, testbed),
    {ok, []}.

handle_call({echo, Payload}, _From, State) ->
    testbed_truth:work(testbed, echo),
    vmq_metrics:incr(rpc_calls, 1),
    vmq_metrics:incr(rpc_bytes, byte_size(Payload)),
    {reply, ok, State};
handle_call(flush, _From, State) ->
    {reply, ok, State}.

handle_cast({tell, Payload}, State) ->
    testbed_truth:work(testbed, tell),
    vmq_metrics:incr(rpc_casts, 1),
    vmq_metrics:incr(rpc_bytes, byte_size(Payload)),
    {noreply, State}.
