%% The VM's side of the conversation with the test that started it: requests
%% come in on file descriptor 3, replies go out on 4, both with a length of
%% four bytes in front. Works on every OTP release from 21 on.
-module(beamprof_testvm).
-export([start/0]).

start() ->
    spawn(fun control/0).

control() ->
    %% The test is answered also while the VM is busy with what it profiles.
    process_flag(priority, max),
    Port = open_port({fd, 3, 4}, [{packet, 4}, binary, eof]),
    Greeting = [erlang:system_info(otp_release), $\s, atom_to_list(node())],
    port_command(Port, Greeting),
    control(Port, undefined).

control(Port, Evaluator) ->
    receive
        {Port, {data, <<Kind, Source/binary>>}} ->
            Living = living(Evaluator),
            port_command(Port, ask(Living, Kind, Source)),
            control(Port, Living);
        {Port, eof} ->
            %% The test is over, or died.
            erlang:halt(0, [{flush, false}])
    end.

living({Pid, Monitor}) ->
    receive
        {'DOWN', Monitor, process, Pid, _} -> living(undefined)
    after 0 ->
        {Pid, Monitor}
    end;
living(undefined) ->
    spawn_monitor(fun evaluator/0).

ask({Pid, Monitor}, Kind, Source) ->
    Pid ! {?MODULE, self(), Kind, Source},
    receive
        {?MODULE, Pid, Reply} -> Reply;
        {'DOWN', Monitor, process, Pid, Reason} = Down ->
            self() ! Down,
            failed(exit, Reason)
    end.

evaluator() ->
    catch register(beamprof_evaluator, self()),
    evaluator(erl_eval:new_bindings()).

evaluator(Bindings) ->
    receive
        {?MODULE, From, Kind, Source} ->
            {Reply, NewBindings} =
                try
                    {value, Value, Bound} = evaluate(Source, Bindings),
                    {[$o, reply(Kind, Value)], Bound}
                catch
                    Class:Reason -> {failed(Class, Reason), Bindings}
                end,
            From ! {?MODULE, self(), Reply},
            evaluator(NewBindings)
    end.

evaluate(Source, Bindings) ->
    Text = unicode:characters_to_list([Source, " ."]),
    {ok, Tokens, _} = erl_scan:string(Text),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    erl_eval:exprs(Expressions, Bindings).

reply($t, Value) -> unicode:characters_to_binary(io_lib:format("~0tp", [Value]));
reply($b, Value) -> iolist_to_binary(Value).

failed(Class, Reason) ->
    [$e, unicode:characters_to_binary(io_lib:format("~p: ~0tp", [Class, Reason]))].
