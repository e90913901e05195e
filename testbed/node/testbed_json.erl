%% Writes terms as JSON: maps, lists, numbers, binaries (UTF-8) and atoms.
-module(testbed_json).
-export([encode/1]).

-spec encode(term()) -> iodata().
encode(Map) when is_map(Map) ->
    [${, lists:join($,, [[string(key(K)), $:, encode(V)] || {K, V} <- lists:sort(maps:to_list(Map))]), $}];
encode(List) when is_list(List) -> [$[, lists:join($,, [encode(E) || E <- List]), $]];
encode(N) when is_integer(N) -> integer_to_binary(N);
encode(F) when is_float(F) -> io_lib:format("~.6f", [F]);
encode(Atom) when Atom =:= true; Atom =:= false; Atom =:= null -> atom_to_binary(Atom, utf8);
encode(Atom) when is_atom(Atom) -> string(atom_to_binary(Atom, utf8));
encode(Binary) when is_binary(Binary) -> string(Binary).

key(K) when is_atom(K) -> atom_to_binary(K, utf8);
key(K) when is_integer(K) -> integer_to_binary(K);
key(K) when is_binary(K) -> K.

string(Binary) -> [$", [escape(C) || <<C/utf8>> <= Binary], $"].

escape($") -> <<"\\\"">>;
escape($\\) -> <<"\\\\">>;
escape(C) when C < 32 -> io_lib:format("\\u~4.16.0b", [C]);
escape(C) -> <<C/utf8>>.
