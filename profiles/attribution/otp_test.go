package attribution

import (
	"slices"
	"testing"
)

// TestApplications: processes of any node are told by the application their module belongs to.
func TestApplications(t *testing.T) {
	w := newWho()
	for process, want := range map[string]string{
		"broker_store":                         "broker",
		"broker_session:init/4":                "broker",
		"MyApp.Worker.init/1":                  "my_app",
		"HTTPServer.run/0":                     "h_t_t_p_server",
		"cowboy:loop/1":                        "cowboy",
		"erlang:apply/2 < MyApp.Worker.init/1": "my_app",
		"gen:reply/2 < broker_store":           "broker",
		"logger_std_h_default":                 "logging",
		"rex":                                  "remote_calls",
	} {
		s := w.sample(process, "")
		if p := attribute(builtin(t, "otp"), s)[s]; len(p) != 1 || p[0].Workload != want {
			t.Errorf("%s: %+v, want %s", process, p, want)
		}
	}
	asked := w.asked(w.sample("file_server_N", "call open"), "broker_store")
	if p := attribute(builtin(t, "otp"), asked)[asked]; len(p) != 1 || p[0].Workload != "broker" || p[0].Basis != BasisCaller {
		t.Errorf("the file server asked by the broker: %+v", p)
	}
}

// TestApplicationsAreBounded: a node can't make the table of workloads grow for ever.
func TestApplicationsAreBounded(t *testing.T) {
	w := newWho()
	a := New(builtin(t, "otp"), period, nil)
	for i := range 500 {
		a.number(application(w.process(string(rune('a'+i%26)) + string(rune('a'+i/26)) + "x:init/1")))
	}
	if len(a.names) > maxWorkloads+1 {
		t.Errorf("%d workloads", len(a.names))
	}
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		modules []string
		want    string
	}{
		{nil, "otp"},
		{[]string{"lists", "broker"}, "otp"},
		{[]string{"lists", "vmq_swc_store"}, "vernemq"},
		{[]string{"rabbit_reader", "mnesia"}, "rabbitmq"},
		{[]string{"ejabberd_app"}, "ejabberd"},
	} {
		if got := Choose(c.modules).Name; got != c.want {
			t.Errorf("%v: rules %s, want %s", c.modules, got, c.want)
		}
	}
}

// What Choose reads of a file is what all of the file says.
func TestDetects(t *testing.T) {
	for _, name := range Names() {
		rules, _ := Builtin(name)
		if got := detects(name); !slices.Equal(got, rules.Detect) {
			t.Errorf("%s: %q, want %q", name, got, rules.Detect)
		}
	}
}
