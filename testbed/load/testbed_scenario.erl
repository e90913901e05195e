%% The scenarios: which loads, at which rates. Rates are per second over both
%% nodes: connects for churn, connects and sockets; objects for ae and repair;
%% messages for publish. All stay well below what two cores can do.
-module(testbed_scenario).
-export([loads/2, names/0]).

scenarios() ->
    [{idle, []},
     {ae, [{ae, 2000}]},
     {repair, [{repair, 1000}]},
     {churn, [{churn, 100}]},
     {publish, [{publish, 1500}]},
     {connects, [{connects, 100}]},
     {sockets, [{sockets, 500}]},
     {mixed1, [{ae, 1500}, {churn, 60}]},
     {mixed2, [{churn, 60}, {publish, 1200}]},
     {mixed3, [{ae, 1500}, {churn, 60}, {publish, 1000}]},
     {demo, [{ae, 2500}, {churn, 50}, {publish, 300}]}].

names() -> [Name || {Name, _} <- scenarios()].

%% loads(Name, Rates) -> {ok, [{Load, Rate}]} | error. Rates: none, a number for a
%% scenario of one load, or a map that replaces the rates of some loads.
loads(Name, Rates) ->
    case lists:keyfind(Name, 1, scenarios()) of
        {_, Loads} -> rates(Loads, Rates);
        false -> error
    end.

rates(Loads, none) -> {ok, Loads};
rates([{Load, _}], Rate) when is_number(Rate) -> {ok, [{Load, Rate}]};
rates(Loads, #{} = Rates) ->
    case maps:keys(Rates) -- [Load || {Load, _} <- Loads] of
        [] -> {ok, [{Load, maps:get(Load, Rates, Rate)} || {Load, Rate} <- Loads]};
        _ -> error
    end;
rates(_, _) -> error.
