%% Writes log lines to a file, which it rotates by size. Two formats: `lager`
%% (VerneMQ 1.x) and `logger` (VerneMQ 2.x).
-module(lager_file_backend).
-behaviour(gen_event).
-export([init/1, handle_event/2, handle_call/2, terminate/2]).

-define(KEEP, 5). % rotated files
-define(COLUMN, 9). % the compiler's column is not known to a macro

-record(backend, {path, fd, bytes = 0, max, format, level}).

init(#{directory := Directory, file := File, level := Level, format := Format, max_bytes := Max}) ->
    testbed_truth:be(lager_event, housekeeping),
    Path = filename:join(Directory, File),
    ok = filelib:ensure_dir(Path),
    {ok, open(#backend{path = Path, max = Max, format = Format, level = Level})}.

open(#backend{path = Path} = Backend) ->
    {ok, Fd} = file:open(Path, [append, raw]),
    Backend#backend{fd = Fd, bytes = filelib:file_size(Path)}.

handle_event({log, {lager_msg, Pid, Where, Severity, Time, Text, Tag}}, #backend{level = Level} = Backend) ->
    testbed_truth:serve(log, Tag),
    Level =:= info andalso lager:written(1), % this handler sees every line
    case severity(Severity) >= severity(Level) of
        true -> {ok, write(format(Backend#backend.format, Pid, Where, Severity, Time, Text), Backend)};
        false -> {ok, Backend}
    end;
handle_event(_, Backend) -> {ok, Backend}.

handle_call(_, Backend) -> {ok, ok, Backend}.

terminate(_, #backend{fd = Fd}) -> file:close(Fd).

severity(info) -> 1;
severity(warning) -> 2;
severity(error) -> 3.

write(Line, #backend{fd = Fd, bytes = Bytes, max = Max} = Backend) ->
    ok = file:write(Fd, Line),
    Size = Bytes + iolist_size(Line),
    case Size > Max of
        true -> rotate(Backend);
        false -> Backend#backend{bytes = Size}
    end.

rotate(#backend{path = Path, fd = Fd} = Backend) ->
    ok = file:close(Fd),
    Name = fun(-1) -> Path; (N) -> Path ++ "." ++ integer_to_list(N) end,
    [file:rename(Name(N - 1), Name(N)) || N <- lists:seq(?KEEP - 1, 0, -1)],
    open(Backend).

format(lager, Pid, {M, F, _, Line}, Severity, {_, _, Micros} = Time, Text) ->
    {{Y, Mo, D}, {H, Mi, S}} = calendar:now_to_local_time(Time),
    io_lib:format("~4..0b-~2..0b-~2..0b ~2..0b:~2..0b:~2..0b.~3..0b [~s] ~w@~s:~s:{~b,~b} ~ts~n",
                  [Y, Mo, D, H, Mi, S, Micros div 1000, Severity, Pid, M, F, Line, ?COLUMN, Text]);
format(logger, Pid, {M, F, A, Line}, Severity, {Mega, Sec, Micros}, Text) ->
    Time = calendar:system_time_to_rfc3339((Mega * 1000000 + Sec) * 1000000 + Micros, [{unit, microsecond}]),
    io_lib:format("~s [~s] ~w ~s:~s/~b:~b: ~ts~n", [Time, Severity, Pid, M, F, A, Line, Text]).
