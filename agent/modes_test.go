package agent

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// device is the client id of all connections to it.
const device = "device-7"

// connect opens connections that send a CONNECT and are closed without an answer.
func connect(t *testing.T, address string, n int) {
	t.Helper()
	for range n {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("\x10\x14\x00\x04MQTT\x04\x02\x00\x3c\x00\x08" + device)); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

// metric returns the value of a metric, with its labels as they are shown; 0 if
// there is none.
func (r *running) metric(t *testing.T, name string) float64 {
	t.Helper()
	_, body := r.get(t, "/metrics")
	match := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(body)
	if match == nil {
		return 0
	}
	value, err := strconv.ParseFloat(match[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// taken is a scrape under way.
type taken struct {
	code int
	body string
	done chan struct{}
}

func (r *running) take(t *testing.T, path string) *taken {
	s := &taken{done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.code, s.body = r.get(t, path)
	}()
	return s
}

// profile waits for the answer, nil if it is no profile.
func (s *taken) profile(t *testing.T) *profile.Profile {
	t.Helper()
	<-s.done
	if s.code != http.StatusOK {
		return nil
	}
	p, err := profile.Parse(bytes.NewReader([]byte(s.body)))
	if err == nil {
		err = p.CheckValid()
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sum adds the first values of the samples that have a label.
func sum(p *profile.Profile, key, value string) (n int64) {
	for _, s := range p.Sample {
		if key == "" || len(s.Label[key]) > 0 && s.Label[key][0] == value {
			n += s.Value[0]
		}
	}
	return n
}

// mode is a value of beside.distribution and beside.connections, and what is
// seen with it.
type mode struct {
	distribution, connections string
	bytes, messages, opened   bool // in the metrics
	messagesProfile           bool
	connectionsProfile        bool
	speech                    bool // what clients say first
}

// TestModes: what is looked at beside samples is what the configuration says,
// as it is changed from one to the next: in the metrics and in what is scraped.
func TestModes(t *testing.T) {
	testsupport.RequireBPF(t)
	cluster := testsupport.NewCluster(t)
	flags := []string{"+S", "1", "+sbwt", "none"}
	one := testsupport.StartVM(t, testsupport.Options{Name: "modes_one", Cluster: cluster, Flags: flags, Eval: testsupport.Accepting})
	two := testsupport.StartVM(t, testsupport.Options{Name: "modes_two", Cluster: cluster, Flags: flags})
	one.Eval(t, fmt.Sprintf("true = net_kernel:connect_node('%s')", two.Node))
	address := fmt.Sprintf("127.0.0.1:%d", one.EvalInt(t, "Port"))
	r := start(t, nobody, "")
	for _, m := range []mode{
		{distribution: "off", connections: "off"},
		{distribution: "totals", connections: "totals", bytes: true, opened: true, connectionsProfile: true},
		{distribution: "sampled", connections: "full", bytes: true, messages: true, messagesProfile: true, opened: true, connectionsProfile: true, speech: true},
		{distribution: "full", connections: "off", bytes: true, messages: true, messagesProfile: true},
	} {
		t.Run(m.distribution+" "+m.connections, func(t *testing.T) {
			r.write(t, "modes_one@.*", fmt.Sprintf("beside: {distribution: '%s', connections: '%s'}\n", m.distribution, m.connections))
			windows := func() float64 { return r.metric(t, fmt.Sprintf(`beamprof_windows_total{node="%s"}`, one.Node)) }
			r.agent.reloadFrom(r.path)
			before := windows()
			eventually(t, "two windows of the new configuration", func() bool { return windows() > before+1 })
			checkMode(t, r, m, one, two, address)
		})
	}
	if log := r.log.String(); strings.Contains(log, `"level":"warn"`) || strings.Contains(log, `"level":"error"`) {
		t.Errorf("the log says\n%s", log)
	}
}

func checkMode(t *testing.T, r *running, m mode, one, two *testsupport.VM, address string) {
	const casts, size, connects = 300, 1000, 20
	metrics := map[string]float64{}
	names := map[string]string{
		"bytes":    fmt.Sprintf(`beamprof_distribution_bytes_total{direction="sent",node="%s",peer="%s"}`, one.Node, two.Node),
		"messages": fmt.Sprintf(`beamprof_distribution_messages_total{direction="sent",node="%s",peer="%s"}`, one.Node, two.Node),
		"opened":   fmt.Sprintf(`beamprof_connections_opened_total{listener="%s",node="%s"}`, address, one.Node),
		"closed":   fmt.Sprintf(`beamprof_connections_closed_total{by="peer",listener="%s",node="%s"}`, address, one.Node),
	}
	for what, name := range names {
		metrics[what] = r.metric(t, name)
	}
	messages, connections := r.take(t, "/debug/pprof/distribution?seconds=4"), r.take(t, "/debug/pprof/connections?seconds=4")
	time.Sleep(500 * time.Millisecond) // until both are collecting
	one.Eval(t, fmt.Sprintf("[{nobody, '%s'} ! binary:copy(<<1>>, %d) || _ <- lists:seq(1, %d)], {ok, _} = erpc:call('%s', file, get_cwd, [])", two.Node, size, casts, two.Node))
	connect(t, address, connects)

	switch p := messages.profile(t); {
	case (p != nil) != m.messagesProfile:
		t.Errorf("messages: status %d, %.100s", messages.code, messages.body)
	case p != nil:
		if n := sum(p, "direction", "sent"); n < casts || n > casts+20 {
			t.Errorf("%d messages sent, want %d and a few more", n, casts)
		}
		if n := sum(p, "peer", two.Node); n != sum(p, "", "") {
			t.Errorf("%d messages of %d are with %s", n, sum(p, "", ""), two.Node)
		}
	}
	switch p := connections.profile(t); {
	case (p != nil) != m.connectionsProfile:
		t.Errorf("connections: status %d, %.100s", connections.code, connections.body)
	case p != nil:
		if n := sum(p, "", ""); n != connects {
			t.Errorf("%d connections, want %d", n, connects)
		}
		if n := sum(p, "protocol", "mqtt"); (n == connects) != m.speech || !m.speech && n != 0 {
			t.Errorf("%d connections are known to speak MQTT", n)
		}
		if strings.Contains(p.String(), device) {
			t.Errorf("the client id is not hashed:\n%s", p)
		}
	}
	check := func(what string, wanted bool, least, most float64) {
		t.Helper()
		if !wanted {
			least, most = 0, 0
		}
		var got float64
		// The last ones are counted at the next look.
		eventually(t, fmt.Sprintf("metrics: %s by %g to %g", what, least, most), func() bool {
			got = r.metric(t, names[what]) - metrics[what]
			return got >= least
		})
		if got > most {
			t.Errorf("metrics: %s by %g, want %g to %g", what, got, least, most)
		}
	}
	check("bytes", m.bytes, casts*size, casts*(size+100)+5000)
	check("messages", m.messages, casts, casts+20)
	check("opened", m.opened, connects, connects)
	check("closed", m.opened, connects, connects)
}

// TestReloadIsAllOrNothing: of a configuration with one thing wrong nothing is
// taken, whatever it is and whatever else is in the file.
func TestReloadIsAllOrNothing(t *testing.T) {
	testsupport.RequireBPF(t)
	r := start(t, nobody, "")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := "127.0.0.1:" + strconv.Itoa(freePort(t))
	good, output := r.address, r.output
	for i, wrong := range []struct{ address, sink, more, want string }{
		{free, "", "rules: /no/such/file\n", "rules: "},
		{free, "", "bogus: 1\n", "unknown key bogus"},
		{taken.Addr().String(), "", "", "address already in use"},
		{free, ", {name: other, type: http, url: 'https://127.0.0.1:1', tls: {ca_file: /no/such/file}}", "", "tls.ca_file: open /no/such/file"},
		{free, ", {name: other, type: http, url: nonsense}", "", "sinks[1].url"},
		{free, ", {name: new, type: http, url: 'http://127.0.0.1:1'}", "", "is there twice"},
		{free, "", "labels: {region: '${BEAMPROF_TEST_NOT_SET}'}\n", "BEAMPROF_TEST_NOT_SET"},
	} {
		r.address = wrong.address
		text := fmt.Sprintf("sampling: {frequency: 49, window: 2s, profile: 4s}\ntargets: {nodes: ['.*']}\nspool: %s\nhttp: {listen: %q}\n"+
			"sinks: [{name: new, type: directory, directory: {path: %s-new}}%s]\n%s", strings.TrimSuffix(output, "profiles")+"spool", wrong.address, output, wrong.sink, wrong.more)
		rewrite(t, r.path, text)
		r.agent.reloadFrom(r.path)
		r.address = good
		lines := strings.Split(strings.TrimSpace(r.log.String()), "\n")
		if last := lines[len(lines)-1]; !strings.Contains(last, wrong.want) || !strings.Contains(last, "was not taken") {
			t.Errorf("%q: %s", wrong.want, last)
		}
		_, body := r.get(t, "/metrics")
		if !strings.Contains(body, `beamprof_sink_sent_total{sink="local"`) || strings.Contains(body, `sink="new"`) || strings.Contains(body, `sink="other"`) ||
			!strings.Contains(body, fmt.Sprintf(`beamprof_config_reloads_total{result="failed"} %d`, i+1)) || !strings.Contains(body, "beamprof_targets 0\n") {
			t.Errorf("%q: something of it was taken", wrong.want)
		}
		if connection, err := net.Dial("tcp", free); err == nil {
			connection.Close()
			t.Errorf("%q: it listens on the new address", wrong.want)
		}
	}
	// Nothing was left behind that keeps the right one from being taken.
	r.address, r.url = free, "http://"+free
	r.write(t, nobody, "")
	r.agent.reloadFrom(r.path)
	if n := r.metric(t, `beamprof_config_reloads_total{result="ok"}`); n != 1 {
		t.Errorf("the right one was not taken:\n%s", r.log.String())
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
