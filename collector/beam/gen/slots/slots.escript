#!/usr/bin/env escript
%% Prints where the frames of OTP's generic servers keep what gen.go looks for,
%% read from the compiled modules of the OTP that runs this: one line per call
%% that leaves such a frame on the stack,
%%
%%   Function TAB Callee TAB Words TAB What=Register ...
%%
%% Words is the number of Y registers of the frame during the call. What is one
%% of message, queue, event, continue, request and from (see form in gen.go). The test of
%% the package compares this with its tables; a table for another release is
%% made from it.
%%
%% It follows the code of each function from its entry with symbolic values: an
%% argument, an element of it, a list made of them.

-mode(compile).

main(Files) ->
    [module(File) || File <- Files],
    ok.

%% What the functions that call callbacks, or what is between them and the
%% callbacks, get as arguments, by name; the releases differ in their arity.
known({gen_server, handle_msg, _}) ->
    %% (Msg, ...), Msg being {'$gen_call', From, Request} in a call
    [{message, {arg, 0}}, {from, {element, 1, {arg, 0}}}, {request, {element, 2, {arg, 0}}}];
known({gen_server, loop, A}) ->
    %% (Parent, Name, State, Mod, {continue, Continue}, ...)
    [{continue, {arg, 4}} || A >= 6];
known({gen_statem, loop_state_callback, 11}) ->
    %% (P, Debug, S, Q, ..., Event), Q being a list that begins with the event
    [{queue, {arg, 3}}];
known({gen_fsm, handle_msg, A}) ->
    %% (Msg, ...); the caller is in what from/1 says
    [{message, {arg, 0}}, {from, {result, {gen_fsm, from, 1}}}] ++ [{never, A} || A < 0];
known({gen_event, handle_msg, _}) ->
    %% (Msg, ...), Msg being {_, From, Request} in a call
    [{from, {element, 1, {arg, 0}}}];
known({gen_event, server_update, 4}) ->
    %% (Handler, Function, Event, Name)
    [{event, {arg, 2}}];
known({gen_event, server_call_update, _}) ->
    %% (Handler, Query, Name)
    [{request, {arg, 1}}];
known(_) ->
    [].

module(File) ->
    {beam_file, Module, _, _, _, Functions} = beam_disasm:file(File),
    [function({Module, Name, Arity}, Code) || {function, Name, Arity, _, Code} <- Functions, known({Module, Name, Arity}) =/= []].

function({_, _, Arity} = MFA, Code) ->
    Blocks = blocks(Code, none, [], #{}),
    Start = entry(Code),
    Registers = maps:from_list([{{x, N}, {arg, N}} || N <- lists:seq(0, Arity - 1)]),
    Sites = run([Start], #{Start => {Registers, none}}, Blocks, #{}),
    Lines = lists:usort([line(MFA, Site, known(MFA)) || Site <- maps:values(Sites)]),
    [io:put_chars(Line) || Line <- Lines].

%% The label after func_info begins the function.
entry([{func_info, _, _, _}, {label, L} | _]) -> L;
entry([_ | Code]) -> entry(Code).

blocks([{label, L} | Code], none, _, Blocks) -> blocks(Code, L, [], Blocks);
blocks([{label, L} | Code], Label, Block, Blocks) ->
    blocks(Code, L, [], Blocks#{Label => lists:reverse([{jump, {f, L}} | Block])});
blocks([I | Code], Label, Block, Blocks) -> blocks(Code, Label, [I | Block], Blocks);
blocks([], Label, Block, Blocks) -> Blocks#{Label => lists:reverse(Block)}.

%% Runs blocks until the registers at every label do not change any more. A
%% state is the registers and the number of words of the frame.
run([L | Work], States, Blocks, Sites) ->
    {Reached, NewSites} = block(maps:get(L, Blocks), maps:get(L, States), [], Sites, 0, L),
    {NewStates, NewWork} = lists:foldl(fun reach/2, {States, Work}, Reached),
    run(NewWork, NewStates, Blocks, NewSites);
run([], _, _, Sites) -> Sites.

reach({L, State}, {States, Work}) ->
    case States of
        #{L := State} -> {States, Work};
        #{L := Old} ->
            case join(Old, State) of
                Old -> {States, Work};
                New -> {States#{L => New}, [L | Work]}
            end;
        #{} -> {States#{L => State}, [L | Work]}
    end.

join({A, Words}, {B, Words}) ->
    {maps:filter(fun(R, V) -> maps:find(R, B) =:= {ok, V} end, A), Words};
join({A, _}, {B, _}) ->
    {maps:filter(fun({x, _} = R, V) -> maps:find(R, B) =:= {ok, V}; (_, _) -> false end, A), none}.

block([I | Code], State, Reached, Sites, N, L) ->
    Jumps = [{To, State} || To <- labels(I)],
    case step(I, State) of
        stop -> {Jumps ++ Reached, Sites};
        {call, Callee, {Registers, Words} = Before} ->
            Handlers = [{To, Before} || {handler, To} <- maps:values(Registers)],
            NewSites = case Words of none -> Sites; _ -> Sites#{{L, N} => {Callee, Before}} end,
            Ys = maps:filter(fun(R, _) -> element(1, R) =:= y end, Registers),
            After = {Ys#{{x, 0} => {result, Callee}}, Words},
            block(Code, After, Handlers ++ Jumps ++ Reached, NewSites, N + 1, L);
        New -> block(Code, New, Jumps ++ Reached, Sites, N + 1, L)
    end;
block([], _, Reached, Sites, _, _) -> {Reached, Sites}.

%% The labels that an instruction may go to. Handlers are reached by calls.
labels({Op, _, {f, _}}) when Op =:= 'try'; Op =:= 'catch' -> [];
labels({f, L}) when L > 0 -> [L];
labels(T) when is_tuple(T) -> labels(tuple_to_list(T));
labels([H | T]) -> labels(H) ++ labels(T);
labels(_) -> [].

step({allocate, W, _}, {R, _}) -> {without_y(R), W};
step({allocate_zero, W, _}, {R, _}) -> {without_y(R), W};
step({allocate_heap, W, _, _}, {R, _}) -> {without_y(R), W};
step({allocate_heap_zero, W, _, _}, {R, _}) -> {without_y(R), W};
step({deallocate, _}, {R, _}) -> {without_y(R), none};
step({trim, N, Left}, {R, _}) ->
    {maps:fold(fun({y, Y}, V, M) when Y >= N -> M#{{y, Y - N} => V};
                  ({y, _}, _, M) -> M;
                  (X, V, M) -> M#{X => V} end, #{}, R), Left};
step({move, From, To}, {R, W}) -> {set(To, value(From, R), R), W};
step({swap, A, B}, {R, W}) -> {set(A, value(B, R), set(B, value(A, R), R)), W};
step({get_tuple_element, From, N, To}, {R, W}) -> {set(To, element_of(N, value(From, R)), R), W};
step({get_hd, From, To}, {R, W}) -> {set(To, head_of(value(From, R)), R), W};
step({get_tl, _, To}, {R, W}) -> {set(To, unknown, R), W};
step({get_list, From, H, T}, {R, W}) -> {set(T, unknown, set(H, head_of(value(From, R)), R)), W};
step({put_list, H, _, To}, {R, W}) -> {set(To, {list, value(H, R)}, R), W};
step({put_tuple2, To, {list, Vs}}, {R, W}) -> {set(To, {tuple, [value(V, R) || V <- Vs]}, R), W};
step({init_yregs, {list, Ys}}, {R, W}) -> {maps:without(Ys, R), W};
step({kill, Y}, {R, W}) -> {maps:remove(Y, R), W};
step({init, Y}, {R, W}) -> {maps:remove(Y, R), W};
step({Op, Y, {f, L}}, {R, W}) when Op =:= 'try'; Op =:= 'catch' -> {set(Y, {handler, L}, R), W};
step({Op, Y}, {R, W}) when Op =:= try_end; Op =:= try_case; Op =:= catch_end -> {maps:remove(Y, R), W};
step({call, _, Callee}, S) -> {call, Callee, S};
step({call_ext, _, {extfunc, M, F, A}}, S) -> {call, {M, F, A}, S};
step({apply, A}, S) -> {call, {callback, A}, S};
step({call_fun, A}, S) -> {call, {'fun', A}, S};
step({call_fun2, _, A, _}, S) -> {call, {'fun', A}, S};
step({Op, _, _}, _) when Op =:= call_only; Op =:= call_ext_only; Op =:= apply_last; Op =:= select_val -> stop;
step({Op, _, _, _}, _) when Op =:= call_last; Op =:= call_ext_last; Op =:= select_val; Op =:= select_tuple_arity -> stop;
step({Op, _}, _) when Op =:= jump; Op =:= wait; Op =:= case_end; Op =:= badmatch; Op =:= badrecord; Op =:= try_case_end -> stop;
step({func_info, _, _, _}, _) -> stop;
step(Op, _) when Op =:= return; Op =:= if_end; Op =:= raw_raise -> stop;
step(I, {R, W}) when is_tuple(I) -> {lists:foldl(fun(To, M) -> set(To, unknown, M) end, R, targets(I)), W};
step(_, S) -> S.

%% The registers that other instructions write.
targets({test, _, _, _}) -> [];
targets({test_heap, _, _}) -> [];
targets({get_map_elements, _, _, {list, Pairs}}) -> registers(Pairs);
targets({put_map_assoc, _, _, To, _, _}) -> [To];
targets({put_map_exact, _, _, To, _, _}) -> [To];
targets({set_tuple_element, _, _, _}) -> [];
targets({bif, _, _, _, To}) -> [To];
targets({gc_bif, _, _, _, _, To}) -> [To];
targets({loop_rec, _, To}) -> [To];
targets(I) -> registers(tuple_to_list(I)).

registers({Kind, N} = R) when (Kind =:= x orelse Kind =:= y), is_integer(N) -> [R];
registers(T) when is_tuple(T) -> registers(tuple_to_list(T));
registers([H | T]) -> registers(H) ++ registers(T);
registers(_) -> [].

without_y(R) -> maps:filter(fun(K, _) -> element(1, K) =/= y end, R).

set(To, unknown, R) -> maps:remove(register(To), R);
set(To, V, R) -> R#{register(To) => V}.

value(From, R) -> maps:get(register(From), R, unknown).

%% Type tests put a register into {tr, Register, Type}.
register({tr, R, _}) -> R;
register(R) -> R.

element_of(_, unknown) -> unknown;
element_of(N, {tuple, Vs}) when N < length(Vs) -> lists:nth(N + 1, Vs);
element_of(N, V) -> {element, N, V}.

head_of({list, V}) -> V;
head_of(_) -> unknown.

line({M, F, A}, {Callee, {R, Words}}, Known) ->
    Found = [[$\t, atom_to_list(What), $=, integer_to_list(Y)] || {What, V} <- Known, Y <- lists:seq(0, Words - 1), maps:find({y, Y}, R) =:= {ok, V}],
    io_lib:format("~p:~p/~p\t~s\t~p~s~n", [M, F, A, callee(Callee), Words, Found]).

callee({M, F, A}) -> io_lib:format("~p:~p/~p", [M, F, A]);
callee({Kind, A}) -> io_lib:format("~p/~p", [Kind, A]).
