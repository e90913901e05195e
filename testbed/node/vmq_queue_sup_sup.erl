%% The queue supervisors, one of which is chosen by client id, and the tables of
%% running queues: {SubscriberId, Queue}.
-module(vmq_queue_sup_sup).
-behaviour(supervisor).
-export([start_link/0, start_queue/2, get_queue_pid/1, gone/2]).
-export([init/1]).

-define(SUPERVISORS, 51).

start_link() -> supervisor:start_link({local, ?MODULE}, ?MODULE, []).

start_queue(SubscriberId, Clean) -> vmq_queue_sup:start_queue(element(1, place(SubscriberId)), SubscriberId, Clean).

get_queue_pid(SubscriberId) ->
    case ets:lookup(element(2, place(SubscriberId)), SubscriberId) of
        [{_, Queue}] -> Queue;
        [] -> not_found
    end.

%% gone takes the queue out of its table, unless another one has taken its place.
gone(SubscriberId, Queue) -> ets:delete_object(element(2, place(SubscriberId)), {SubscriberId, Queue}).

%% place gives the supervisor's name and its table.
place(SubscriberId) -> element(erlang:phash2(SubscriberId, ?SUPERVISORS) + 1, persistent_term:get(?MODULE)).

init([]) ->
    Places = [{list_to_atom(lists:concat([vmq_queue_sup_, I])), ets:new(vmq_queues, [public, {read_concurrency, true}])}
              || I <- lists:seq(0, ?SUPERVISORS - 1)],
    persistent_term:put(?MODULE, list_to_tuple(Places)),
    {ok, {#{intensity => 10},
          [#{id => Name, start => {vmq_queue_sup, start_link, [Name, Name, Table]}} || {Name, Table} <- Places]}}.
