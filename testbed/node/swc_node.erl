%% Node clocks: which writes (dots) a node has seen. For each writer the clock
%% holds a base (all counters up to it were seen) and a bitmap of those above it.
-module(swc_node).
-export([new/0, event/2, add/2, from_base/2, base/2, bases/1, union/3, missing/3]).
-export_type([clock/0, dot/0, id/0]).

-type id() :: {node(), Incarnation :: integer()}.
-type dot() :: {id(), pos_integer()}.
-type clock() :: #{id() => {Base :: non_neg_integer(), Bitmap :: non_neg_integer()}}.

new() -> #{}.

%% event makes the writer's next dot.
-spec event(clock(), id()) -> {dot(), clock()}.
event(Clock, Id) ->
    {Base, 0} = maps:get(Id, Clock, {0, 0}), % a writer knows all of its own dots
    {{Id, Base + 1}, Clock#{Id => {Base + 1, 0}}}.

-spec add(clock(), dot()) -> clock().
add(Clock, {Id, Counter}) ->
    {Base, Bitmap} = maps:get(Id, Clock, {0, 0}),
    case Counter > Base of
        true -> Clock#{Id => normal(Base, Bitmap bor (1 bsl (Counter - Base - 1)))};
        false -> Clock
    end.

%% from_base gives the writer's entry a base: all dots up to it count as seen.
-spec from_base(clock(), dot()) -> clock().
from_base(Clock, {Id, Base}) -> Clock#{Id => {Base, 0}}.

base(Clock, Id) -> element(1, maps:get(Id, Clock, {0, 0})).

bases(Clock) -> maps:map(fun(_, {Base, _}) -> Base end, Clock).

%% union adds what the other clock has seen of the given writers.
-spec union(clock(), clock(), [id()]) -> clock().
union(Clock, Other, Ids) ->
    lists:foldl(fun(Id, Acc) ->
                    {B1, M1} = maps:get(Id, Acc, {0, 0}),
                    {B2, M2} = maps:get(Id, Other, {0, 0}),
                    Base = max(B1, B2),
                    Acc#{Id => normal(Base, (M1 bsr (Base - B1)) bor (M2 bsr (Base - B2)))}
                end, Clock, Ids).

normal(Base, Bitmap) when Bitmap band 1 =:= 1 -> normal(Base + 1, Bitmap bsr 1);
normal(Base, Bitmap) -> {Base, Bitmap}.

%% missing lists at most Limit dots the other clock has and this one lacks, oldest first.
-spec missing(clock(), clock(), non_neg_integer()) -> [dot()].
missing(Clock, Other, Limit) ->
    lists:reverse(maps:fold(fun(Id, Theirs, Acc) ->
                                missing(Id, maps:get(Id, Clock, {0, 0}), Theirs, Limit - length(Acc), Acc)
                            end, [], Other)).

missing(Id, {Base, _} = Ours, Theirs, Limit, Acc) ->
    missing(Id, Base + 1, last(Theirs), Ours, Theirs, Limit, Acc).

missing(_, Counter, Last, _, _, Limit, Acc) when Counter > Last; Limit =< 0 -> Acc;
missing(Id, Counter, Last, Ours, Theirs, Limit, Acc) ->
    case seen(Counter, Theirs) andalso not seen(Counter, Ours) of
        true -> missing(Id, Counter + 1, Last, Ours, Theirs, Limit - 1, [{Id, Counter} | Acc]);
        false -> missing(Id, Counter + 1, Last, Ours, Theirs, Limit, Acc)
    end.

seen(Counter, {Base, _}) when Counter =< Base -> true;
seen(Counter, {Base, Bitmap}) -> (Bitmap bsr (Counter - Base - 1)) band 1 =:= 1.

last({Base, Bitmap}) -> Base + bits(Bitmap, 0).

bits(0, N) -> N;
bits(Bitmap, N) -> bits(Bitmap bsr 1, N + 1).
