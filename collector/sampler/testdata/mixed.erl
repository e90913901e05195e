%% A load that runs through as much of OTP's code as it can, module by module.
-module(mixed).
-export([start/1]).

%% Source is the path of a file to compile.
start(Source) ->
    [spawn(fun() -> again(F) end) || F <- [fun() -> compiles(Source) end | activities()]],
    ok.

again(F) ->
    _ = (catch F()),
    again(F).

compiles(Source) ->
    {ok, _, Code} = compile:file(Source, [binary, {d, x}, debug_info]),
    {ok, {_, [{abstract_code, {_, Forms}}]}} = beam_lib:chunks(Code, [abstract_code]),
    Text = lists:flatten([erl_pp:form(F) || F <- Forms]),
    {ok, _, _} = erl_scan:string(Text),
    _ = epp:parse_file(Source, []),
    erl_lint:module(Forms).

activities() ->
    L = [{N, integer_to_list(N * 7919 rem 1009), N / 3} || N <- lists:seq(1, 400)],
    Words = lists:duplicate(50, "the quick brown fox jumps over the lazy dog, 1999-12-31; "),
    Text = unicode:characters_to_binary(Words),
    [
     fun() -> lists:keysort(2, L), lists:usort(fun(A, B) -> A >= B end, L), lists:sort(L), lists:foldl(fun({N, _, _}, S) -> S + N end, 0, L) end,
     fun() -> lists:zip3(L, L, L), lists:partition(fun({N, _, _}) -> N rem 3 =:= 0 end, L), lists:flatten([[X] || X <- L]), lists:merge(L, L) end,
     fun() -> iolist_to_binary(io_lib:format("~p ~w ~s ~10.3f ~tp", [L, L, "x", 3.14, Text])) end,
     fun() -> re:replace(Text, "([a-z]+) ([a-z]+)", "\\2 \\1", [global]), re:split(Text, "[ ,;]+"), re:run(Text, "(\\d+)-(\\d+)", [global]) end,
     fun() -> T = ets:new(t, [ordered_set]), ets:insert(T, L), ets:select(T, [{{'$1', '_', '$2'}, [{'>', '$1', 100}], ['$2']}]), ets:foldl(fun(_, A) -> A + 1 end, 0, T), ets:match(T, {'$1', '_', '_'}), ets:delete(T) end,
     fun() -> M = maps:from_list([{K, V} || {K, V, _} <- L]), maps:fold(fun(K, _, A) -> K + A end, 0, maps:map(fun(K, _) -> K end, M)), maps:merge(M, M), maps:filter(fun(K, _) -> K > 3 end, M) end,
     fun() -> D = dict:from_list([{K, V} || {K, V, _} <- L]), dict:fold(fun(_, _, A) -> A end, 0, dict:map(fun(_, V) -> V end, D)) end,
     fun() -> T = gb_trees:from_orddict(orddict:from_list([{K, V} || {K, V, _} <- L])), gb_trees:balance(lists:foldl(fun({K, _, _}, A) -> gb_trees:delete_any(K, A) end, T, lists:sublist(L, 100))) end,
     fun() -> S = gb_sets:from_list(L), sets:union(sets:from_list(L), sets:from_list(L)), ordsets:union(ordsets:from_list(L), []), gb_sets:union(S, S) end,
     fun() -> Q = lists:foldl(fun queue:in/2, queue:new(), L), queue:filter(fun({N, _, _}) -> N > 10 end, queue:reverse(Q)), array:foldl(fun(_, _, A) -> A end, 0, array:from_list(L)) end,
     fun() -> string:split(Text, " ", all), string:uppercase(Text), string:trim(Text), string:lexemes(lists:append(Words), " ,;"), string:length(Text) end,
     fun() -> unicode:characters_to_nfd_binary(Text), unicode:characters_to_list(Text), base64:decode(base64:encode(Text)) end,
     fun() -> binary_to_term(term_to_binary(L)), erlang:phash2(L), erlang:md5(Text), erlang:crc32(Text), zlib:gunzip(zlib:gzip(Text)) end,
     fun() -> crypto:hash(sha256, Text), crypto:crypto_one_time(aes_256_ctr, <<0:256>>, <<0:128>>, Text, true) end,
     fun() -> {ok, T, _} = erl_scan:string("lists:sum([X * 2 || X <- lists:seq(1, 200), X rem 3 =:= 0])."), {ok, E} = erl_parse:parse_exprs(T), erl_eval:exprs(E, []) end,
     fun() -> calendar:datetime_to_gregorian_seconds(calendar:universal_time()), calendar:rfc3339_to_system_time("2018-02-01T16:17:58Z"), uri_string:parse("http://user@host:80/a/b?c=d#e"), uri_string:normalize("http://a/../b") end,
     fun() -> digraph() end,
     fun() -> R = rand:seed_s(exsss, 42), lists:foldl(fun(_, S) -> element(2, rand:uniform_s(S)) end, R, lists:seq(1, 500)) end,
     fun() -> floats(1.0, 1000), catch error(badarg), (catch lists:nth(0, [])), (catch maps:get(a, #{})) end,
     fun() -> json([{<<"name">>, Text}, {<<"list">>, [1, 2, 3.5, true, null]}, {<<"text">>, <<"a\"b\\c\n">>}]) end,
     fun() -> bits(Text, 0) end,
     fun() -> filename:join(filename:split("/usr/lib/erlang/../lib")), filelib:wildcard("*.beam"), file:read_file("mixed.erl") end,
     fun() -> io_lib:fread("~d ~s ~f", "42 abc 3.5"), io_lib:print(L, 1, 80, 30), proplists:get_value(x, [{K, V} || {K, V, _} <- L]) end,
     fun() -> P = self(), spawn(fun() -> P ! {self(), hello} end), receive {_, hello} -> ok after 100 -> ok end, timer:tc(lists, seq, [1, 10]) end
    ].

digraph() ->
    G = digraph:new(),
    Vs = [digraph:add_vertex(G, N) || N <- lists:seq(1, 50)],
    [digraph:add_edge(G, A, B) || A <- Vs, B <- Vs, (A * B) rem 7 =:= 1],
    digraph_utils:topsort(G), digraph_utils:components(G), digraph_utils:strong_components(G),
    digraph:delete(G).

floats(X, 0) -> X;
floats(X, N) -> floats(math:sqrt(X * X + N) / (1 + abs(math:sin(X))), N - 1).

json({K, V}) -> [json(K), $:, json(V)];
json([{_, _} | _] = O) -> [${, lists:join($,, [json(P) || P <- O]), $}];
json(L) when is_list(L) -> [$[, lists:join($,, [json(X) || X <- L]), $]];
json(B) when is_binary(B) -> [$", << <<(escape(C))/binary>> || <<C>> <= B >>, $"];
json(A) when is_atom(A) -> atom_to_binary(A);
json(N) when is_integer(N) -> integer_to_binary(N);
json(F) when is_float(F) -> float_to_binary(F, [short]).

escape($") -> <<"\\\"">>;
escape($\\) -> <<"\\\\">>;
escape($\n) -> <<"\\n">>;
escape(C) -> <<C>>.

bits(<<A:3, B:5, C:16/little, Rest/binary>>, S) -> bits(Rest, (S bxor A bxor B bxor C) band 16#ffff);
bits(_, S) -> S.
