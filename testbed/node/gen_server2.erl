%% A server with its own loop and mailbox: it takes in all that has arrived
%% before it handles the first, so that a long mailbox is scanned once. A module
%% has init/1, handle_call/3 and handle_info/2 as with gen_server.
-module(gen_server2).
-export([start_link/3, call/2, init_it/3]).


start_link(Name, Module, Args) -> proc_lib:start_link(?MODULE, init_it, [Name, Module, Args]).

call(Name, Request) ->
    {ok, Reply} = gen:call(Name, '$gen_call', Request, infinity),
    Reply.

init_it(Name, Module, Args) ->
    register(Name, self()),
    {ok, State} = Module:init(Args),
    proc_lib:init_ack({ok, self()}),
    loop(Module, State, queue:new()).

loop(Module, State, Queue) ->
    case queue:out(drain(Queue)) of
        {{value, Message}, Rest} ->
            loop(Module, handle_msg(Message, Module, State), Rest);
        {empty, Empty} ->
            receive Message -> loop(Module, State, queue:in(Message, Empty)) end
    end.

drain(Queue) ->
    receive Message -> drain(queue:in(Message, Queue)) after 0 -> Queue end.

handle_msg({'$gen_call', From, Request}, Module, State) ->
    {reply, Reply, State1} = Module:handle_call(Request, From, State),
    gen:reply(From, Reply),
    State1;
handle_msg(Message, Module, State) ->
    {noreply, State1} = Module:handle_info(Message, State),
    State1.
