%% Sees every change of a subscriber record: a client that moved to another node
%% has its queue here cleaned up, if the new session is a clean one, or migrated.
-module(vmq_reg_mgr).
-behaviour(gen_server).
-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

init([]) ->
    testbed_truth:be(?MODULE, client_churn),
    ok = vmq_subscriber_db:subscribe(),
    {ok, []}.

handle_call(_, _, State) -> {reply, ok, State}.
handle_cast(_, State) -> {noreply, State}.

handle_info({updated, {_, SubscriberId}, _Old, New, Tag}, State) ->
    testbed_truth:serve(updated, Tag),
    case New of
        [{Node, Clean, _}] when Node =/= node() -> moved(vmq_queue_sup_sup:get_queue_pid(SubscriberId), Node, Clean, Tag);
        _ -> ok
    end,
    {noreply, State};
handle_info(_, State) ->
    {noreply, State}.

moved(not_found, _, _, _) -> ok;
moved(Queue, Node, Clean, {Workload, _} = Tag) ->
    spawn(fun() ->
              testbed_truth:be('vmq_reg_mgr:-moved/4-fun-0-/0', Workload),
              testbed_truth:serve(moved, Tag),
              case Clean of
                  true -> vmq_queue:cleanup(Queue, session_taken_over);
                  false -> vmq_queue:migrate(Queue, Node)
              end
          end).
