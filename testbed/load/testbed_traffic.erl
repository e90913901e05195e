%% Known distribution traffic: from each node so many calls and casts of so many
%% bytes to the other, and what the nodes counted of it.
-module(testbed_traffic).
-export([run/4]).

run(Nodes, Calls, Casts, Bytes) ->
    Before = counts(Nodes),
    [ok = testbed_nodes:call(Node, {traffic, Calls, Casts, Bytes}) || Node <- Nodes],
    After = counts(Nodes),
    #{event => result, schema => <<"testbed.dist/1">>, calls => Calls, casts => Casts, bytes => Bytes,
      nodes => [#{name => Name, pid => Pid,
                  received => testbed_nodes:difference(C0, C1),
                  distribution => [testbed_nodes:difference(D0, D1) || {D0, D1} <- lists:zip(Dist0, Dist1)]}
                || {#{name := Name, pid := Pid}, {C0, Dist0}, {C1, Dist1}} <- lists:zip3(Nodes, Before, After)]}.

counts(Nodes) ->
    [{maps:with([rpc_calls, rpc_casts, rpc_bytes], testbed_nodes:call(Node, counters)), testbed_nodes:call(Node, distribution)} || Node <- Nodes].
