%% For whom a process works, known by construction.
%%
%% Every process of the system says what it is (be/2), and at each piece of work
%% for whom it does it: work/2 where the code itself decides, serve/2 where a
%% request brought the tag of its origin along. A tag is {Workload, Kind of the
%% requesting process}; tag/0 is what a request carries onwards.
%%
%% mark/4 and mark_port/3 do nothing. A capture (testbed_capture) traces calls to
%% them, so that marks cost next to nothing while no truth is taken.
-module(testbed_truth).
-export([be/2, work/2, serve/2, tag/0, tag/1, port/3, mark/4, mark_port/3]).
-export_type([tag/0, workload/0]).

-type workload() :: ae_exchange | client_churn | replication | message_routing | housekeeping | testbed | unmarked.
-type tag() :: {workload(), Kind :: atom()}.

-define(KEY, '$testbed_tag').

%% be names the calling process and its work until the next mark.
-spec be(atom(), workload()) -> ok.
be(Kind, Workload) ->
    put(?KEY, {Workload, Kind}),
    ?MODULE:mark(Kind, Workload, start, none).

%% work starts a piece of work whose purpose the code knows.
-spec work(workload(), atom()) -> ok.
work(Workload, Request) ->
    {_, Kind} = tag(),
    put(?KEY, {Workload, Kind}),
    ?MODULE:mark(Kind, Workload, Request, none).

%% serve starts work on a request for the one who sent it.
-spec serve(atom(), tag()) -> ok.
serve(Request, {Workload, Caller}) ->
    {_, Kind} = tag(),
    put(?KEY, {Workload, Kind}),
    ?MODULE:mark(Kind, Workload, Request, Caller).

%% tag is what the calling process's requests carry.
-spec tag() -> tag().
tag() ->
    case get(?KEY) of
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
port(Port, Kind, Workload) when is_port(Port) -> ?MODULE:mark_port(Port, Kind, Workload);
port(_TlsSocket, _Kind, _Workload) -> ok.

mark(_Kind, _Workload, _Request, _Caller) -> ok.
mark_port(_Port, _Kind, _Workload) -> ok.
