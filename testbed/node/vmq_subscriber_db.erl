%% Subscriber records: [{Node, CleanSession, [{Topic, QoS}]}], one entry for the
%% node that has the client's queue.
-module(vmq_subscriber_db).
-export([read/1, store/2, delete/1, fold/2, subscribe/0]).

-define(PREFIX, {vmq, subscriber}).

read(SubscriberId) ->
    case vmq_metadata:get(?PREFIX, SubscriberId) of
        undefined -> [];
        Subs -> Subs
    end.

store(SubscriberId, Subs) -> vmq_metadata:put(?PREFIX, SubscriberId, Subs).

delete(SubscriberId) -> vmq_metadata:delete(?PREFIX, SubscriberId).

fold(Fun, Acc) -> vmq_metadata:fold(Fun, Acc, ?PREFIX).

subscribe() -> vmq_metadata:subscribe(?PREFIX).
