%% Publishes the node's counters under $SYS.
-module(vmq_systree).
-behaviour(gen_server).
-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(INTERVAL, 2000).

start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

init([]) ->
    testbed_truth:be(?MODULE, housekeeping),
    erlang:send_after(?INTERVAL, self(), publish),
    {ok, []}.

handle_call(_, _, State) -> {reply, ok, State}.
handle_cast(_, State) -> {noreply, State}.

handle_info(publish, State) ->
    testbed_truth:work(housekeeping, publish),
    erlang:send_after(?INTERVAL, self(), publish),
    Node = atom_to_binary(node(), utf8),
    maps:fold(fun(Name, Value, _) ->
                  Words = [<<"$SYS">>, Node, atom_to_binary(Name, utf8)],
                  Topic = iolist_to_binary(lists:join($/, Words)),
                  vmq_reg:publish(Words, <<"vmq_systree">>, {Topic, 0, integer_to_binary(Value)}, housekeeping)
              end, ok, vmq_metrics:all()),
    {noreply, State}.
