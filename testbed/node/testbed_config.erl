%% The node's configuration: the terms of the file named by the flag -testbed_config.
-module(testbed_config).
-export([load/0, get/1]).

load() ->
    {ok, [[Path]]} = init:get_argument(testbed_config),
    {ok, Terms} = file:consult(Path),
    persistent_term:put(?MODULE, maps:from_list(Terms)).

%% get returns the value of a key: peer, directory, tls, log, ...
get(Key) -> maps:get(Key, persistent_term:get(?MODULE)).
