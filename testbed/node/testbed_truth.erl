%% For whom a process works, known by construction.
%%
%% Every process of the system says what it is (be/2), and at each piece of work
%% for whom it does it: work/2 where the code itself decides, serve/2 where a
%% request brought the tag of its origin along. A tag is {Workload, Kind of the
%% requesting process}; tag/0 is what a request carries onwards.
%%
%% mark/4, mark_port/3 and mark_sent/3 do nothing. A capture (testbed_capture)
%% traces calls to them, so that they cost next to nothing while no truth is taken.
%% A process marks only changes, and its first work in each capture.
-module(testbed_truth).
-export([init/0, new_capture/0, be/2, work/2, serve/2, tag/0, tag/1, port/3, port_closed/1, sent/3]).
-export([mark/4, mark_port/3, mark_sent/3]).
-export_type([tag/0, workload/0]).

-type workload() :: ae_exchange | client_churn | replication | message_routing | housekeeping | testbed | unmarked.
-type tag() :: {workload(), Kind :: atom()}.

-define(TAG, '$testbed_tag').
-define(MARK, '$testbed_mark').
-define(CAPTURE, testbed_truth_capture).

%% init makes what is shared: the number of the capture, and the table of ports.
init() ->
    persistent_term:put(?CAPTURE, 0),
    ets:new(?MODULE, [named_table, public, {write_concurrency, true}]).

%% new_capture makes everything mark itself anew.
-spec new_capture() -> ok.
new_capture() ->
    persistent_term:put(?CAPTURE, persistent_term:get(?CAPTURE) + 1),
    lists:foreach(fun({Port, Kind, Workload}) -> ?MODULE:mark_port(Port, Kind, Workload) end, ets:tab2list(?MODULE)).

%% be names the calling process and its work until the next mark.
-spec be(atom(), workload()) -> ok.
be(Kind, Workload) -> change(Kind, Workload, start, none).

%% work starts a piece of work whose purpose the code knows.
-spec work(workload(), atom()) -> ok.
work(Workload, Request) -> change(element(2, tag()), Workload, Request, none).

%% serve starts work on a request for the one who sent it.
-spec serve(atom(), tag()) -> ok.
serve(Request, {Workload, Caller}) -> change(element(2, tag()), Workload, Request, Caller).

change(Kind, Workload, Request, Caller) ->
    Mark = {persistent_term:get(?CAPTURE), Kind, Workload, Request, Caller},
    case put(?MARK, Mark) of
        Mark -> ok;
        _ ->
            put(?TAG, {Workload, Kind}),
            ?MODULE:mark(Kind, Workload, Request, Caller)
    end.

%% tag is what the calling process's requests carry.
-spec tag() -> tag().
tag() ->
    case get(?TAG) of
        undefined -> {unmarked, unknown};
        Tag -> Tag
    end.

%% tag/1 is the caller's tag with another workload, for what it sets off elsewhere.
-spec tag(workload()) -> tag().
tag(Workload) ->
    {_, Kind} = tag(),
    {Workload, Kind}.

%% port names a port and books what it does on its own (input and output tasks).
-spec port(port() | term(), atom(), workload()) -> ok.
port(Port, Kind, Workload) when is_port(Port) ->
    ets:insert(?MODULE, {Port, Kind, Workload}),
    ?MODULE:mark_port(Port, Kind, Workload);
port(_TlsSocket, _Kind, _Workload) -> ok.

port_closed(Port) -> ets:delete(?MODULE, Port).

%% sent notes what may go to another node: a message, the request of a gen_server's
%% caller or its reply, a function to spawn, the {M, F, A} of rpc or its result. To
%% is what it is sent to; of the last three only the node of {any, Node} counts.
-spec sent(send | call | cast | reply | spawn | rpc | result, pid() | reference() | {atom(), node()}, term()) -> ok.
sent(Kind, To, Message) -> ?MODULE:mark_sent(Kind, To, Message).

mark(_Kind, _Workload, _Request, _Caller) -> ok.
mark_port(_Port, _Kind, _Workload) -> ok.
mark_sent(_Kind, _To, _Message) -> ok.
