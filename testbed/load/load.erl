%% What a kind of load is. prepare/2 sets up what is not to be measured; start/1
%% begins the load; stop/1 ends it, waits until all of it is done and returns
%% what the load itself knows it did. Context: nodes (testbed_nodes:cluster()),
%% seconds, tls, connections (a file to write, or none).
-module(load).
-export([module/1, kinds/0]).
-export_type([context/0]).

-type context() :: #{nodes := [map()], seconds := pos_integer(), tls := boolean(), connections := none | file:name()}.

-callback prepare(context(), Rate :: number()) -> State :: term().
-callback start(State :: term()) -> State :: term().
-callback stop(State :: term()) -> #{atom() => term()}.

kinds() -> [ae, repair, churn, publish, connects, sockets].

module(ae) -> load_ae;
module(repair) -> load_repair;
module(churn) -> load_churn;
module(publish) -> load_publish;
module(connects) -> load_connects;
module(sockets) -> load_sockets.
