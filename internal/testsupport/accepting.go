package testsupport

// Accepting is Erlang that accepts connections at a port of 127.0.0.1, the variable
// Port, and reads from them. It leaves it to the clients to close them.
const Accepting = `{ok, L} = gen_tcp:listen(0, [{ip, {127,0,0,1}}, binary, {active, false}, {backlog, 1000}]),
	{ok, Port} = inet:port(L),
	Acceptor = spawn(fun() -> (fun Loop() ->
		{ok, S} = gen_tcp:accept(L),
		Pid = spawn(fun() -> receive go -> (fun Read() -> case gen_tcp:recv(S, 0) of {ok, _} -> Read(); _ -> ok end end)() end end),
		ok = gen_tcp:controlling_process(S, Pid), Pid ! go, Loop() end)() end),
	ok = gen_tcp:controlling_process(L, Acceptor)`
