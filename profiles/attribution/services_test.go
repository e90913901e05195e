package attribution_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/internal/testsupport"
	"github.com/beamprof/beamprof/profiles/attribution"
)

// service is a server as Debian has it, which speaks MQTT.
type service struct {
	name      string // of its rules, too
	installed string // a file of the package; a pattern
	user      string // of MQTT clients; %s is the client id
	start     func(s *running) *exec.Cmd
}

// running is a service with what it was given. Everything is on the loopback address.
type running struct {
	node, directory  string
	file, user       string // of the service
	mqtt, amqp, dist int    // ports
}

var services = []service{
	{"rabbitmq", "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server", "guest", startRabbitMQ},
	{"ejabberd", "/usr/lib/*/ejabberd-*/ebin/mod_mqtt.beam", "%s@localhost", startEjabberd},
}

const serviceSeconds = 15

// BenchmarkServices profiles RabbitMQ and ejabberd under clients that publish
// and clients that come and go, and prints what their CPU time was for. It skips
// what is not installed (packages rabbitmq-server, ejabberd):
//
//	go test ./profiles/attribution -run '^$' -bench Services -benchtime 1x
func BenchmarkServices(b *testing.B) {
	for _, s := range services {
		b.Run(s.name, func(b *testing.B) {
			found, _ := filepath.Glob(s.installed)
			if len(found) == 0 {
				b.Skipf("the package is not installed: no %s", s.installed)
			}
			testsupport.RequireBPF(b)
			r := startService(b, s, found[0])
			pid := pidOf(b, r.node)
			for b.Loop() {
				ctx, cancel := context.WithTimeout(b.Context(), serviceSeconds*time.Second)
				var load sync.WaitGroup
				load.Go(func() { r.load(ctx) })
				a, err := observeNode(ctx, pid)
				cancel()
				load.Wait()
				if err != nil {
					b.Fatal(err)
				}
				printService(s.name, &a)
				b.ReportMetric(100*a.share(attribution.Unattributed), "%unattributed")
				if len(a.workloads) < 4 || a.share(attribution.Unattributed) > 0.1 {
					b.Errorf("%s: %.1f%% is unattributed, and there are %d workloads", s.name, 100*a.share(attribution.Unattributed), len(a.workloads))
				}
			}
		})
	}
}

func printService(name string, a *attributed) {
	rules, _ := attribution.Builtin(name)
	all := a.time() + sum(a.workloads[attribution.VM])
	fmt.Printf("\n%s: sampled %.2f s, vm %.0f%%\n", name, a.stats.SampledSeconds(), 100*float64(sum(a.workloads[attribution.VM]))/float64(max(1, all)))
	for _, w := range append(rules.Workloads, attribution.Workload{Name: attribution.Unattributed}) {
		if times := a.workloads[w.Name]; w.Name != attribution.VM && sum(times) > 0 {
			fmt.Printf("  %-16s %5.1f%%  %s\n", w.Name, 100*a.share(w.Name), bases(times))
		}
	}
}

// startService starts an epmd and the service, and waits until it takes MQTT clients.
func startService(b *testing.B, s service, found string) *running {
	r := &running{
		node: "beamprof_" + s.name + "@127.0.0.1", directory: b.TempDir(), file: found, user: s.user,
		mqtt: freePort(b), amqp: freePort(b), dist: freePort(b),
	}
	epmd := freePort(b)
	environment := append(os.Environ(), fmt.Sprintf("ERL_EPMD_PORT=%d", epmd), "ERL_EPMD_ADDRESS=127.0.0.1", "HOME="+r.directory)
	spawn(b, exec.Command("epmd", "-address", "127.0.0.1", "-port", fmt.Sprint(epmd)), environment)
	output := spawn(b, s.start(r), environment)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		client, err := r.connect("probe")
		if err == nil {
			client.Close()
			return r
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(output)
			b.Fatalf("%s takes no clients: %v\n%s", s.name, err, text)
		}
	}
}

// spawn starts a command that ends, with all it started, when the benchmark ends.
// It returns the file that has its output.
func spawn(b *testing.B, command *exec.Cmd, environment []string) string {
	b.Helper()
	output, err := os.CreateTemp(b.TempDir(), "output")
	if err != nil {
		b.Fatal(err)
	}
	defer output.Close()
	command.Env = append(environment, command.Env...)
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		_ = command.Wait()
	})
	return output.Name()
}

func startRabbitMQ(r *running) *exec.Cmd {
	write := func(name, text string) string {
		path := filepath.Join(r.directory, name)
		_ = os.WriteFile(path, []byte(text), 0o600)
		return path
	}
	config := write("rabbitmq.conf", fmt.Sprintf("listeners.tcp.1 = 127.0.0.1:%d\nmqtt.listeners.tcp.1 = 127.0.0.1:%d\nmqtt.allow_anonymous = true\n", r.amqp, r.mqtt))
	command := exec.Command(r.file)
	command.Env = []string{
		"RABBITMQ_NODENAME=" + r.node, "RABBITMQ_USE_LONGNAME=true", "RABBITMQ_CONFIG_FILE=" + strings.TrimSuffix(config, ".conf"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + write("enabled_plugins", "[rabbitmq_mqtt]."), fmt.Sprintf("RABBITMQ_DIST_PORT=%d", r.dist),
		"RABBITMQ_MNESIA_BASE=" + r.directory, "RABBITMQ_LOG_BASE=" + r.directory, "RABBITMQ_PID_FILE=" + filepath.Join(r.directory, "pid"),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
	}
	return command
}

func startEjabberd(r *running) *exec.Cmd {
	config := filepath.Join(r.directory, "ejabberd.yml")
	_ = os.WriteFile(config, fmt.Appendf(nil, `
hosts: [localhost]
auth_method: [anonymous]
anonymous_protocol: login_anon
listen:
  - {port: %d, ip: "127.0.0.1", module: mod_mqtt, backlog: 1000}
modules: {mod_mqtt: {}}
`, r.mqtt), 0o600)
	return exec.Command("sh", "-c", `exec erl -noinput -name "$0" -pa "$2" -mnesia dir "\"$HOME/mnesia\"" \
		-kernel inet_dist_use_interface '{127,0,0,1}' -ejabberd config "\"$1\"" log_path "\"$HOME/ejabberd.log\"" -s ejabberd`, r.node, config, filepath.Dir(r.file))
}

func freePort(b *testing.B) int {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func pidOf(b *testing.B, node string) int {
	candidates, err := beam.List()
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range candidates {
		if c.Info.Node == node {
			return c.Info.PID
		}
	}
	b.Fatalf("no VM is called %s", node)
	return 0
}

// load has four pairs of clients, of which one publishes 100 messages a
// second and the other gets them, and 20 clients a second that connect,
// subscribe and go, until the context ends.
func (r *running) load(ctx context.Context) {
	var clients sync.WaitGroup
	every := func(interval time.Duration, do func(n int) error) {
		clients.Go(func() {
			ticker := time.NewTicker(interval)
			defer ticker.Stop()
			for n := 0; ctx.Err() == nil; n++ {
				if do(n) != nil {
					return
				}
				<-ticker.C
			}
		})
	}
	for i := range 4 {
		topic := fmt.Sprintf("load/%d", i)
		if subscriber, err := r.connect(fmt.Sprintf("subscriber%d", i)); err == nil {
			subscriber.subscribe(topic)
			clients.Go(func() { _, _ = io.Copy(io.Discard, subscriber) })
			context.AfterFunc(ctx, func() { subscriber.Close() })
		}
		if publisher, err := r.connect(fmt.Sprintf("publisher%d", i)); err == nil {
			context.AfterFunc(ctx, func() { publisher.Close() })
			every(10*time.Millisecond, func(int) error { return publisher.publish(topic, make([]byte, 200)) })
		}
	}
	every(50*time.Millisecond, func(n int) error {
		if client, err := r.connect(fmt.Sprintf("guest%d", n%50)); err == nil {
			client.subscribe("guests")
			client.Close()
		}
		return nil
	})
	clients.Wait()
}

// mqttClient speaks as much MQTT 3.1.1 as the load needs.
type mqttClient struct{ net.Conn }

// connect connects a client with a clean session.
func (r *running) connect(id string) (*mqttClient, error) {
	conn, err := net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", r.mqtt), time.Second)
	if err != nil {
		return nil, err
	}
	c := &mqttClient{conn}
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	// Protocol level 4, clean session, with user name and password, keep alive 60 s.
	body := append([]byte("\x00\x04MQTT\x04\xc2\x00\x3c"), mqttString(id)...)
	body = append(append(body, mqttString(strings.ReplaceAll(r.user, "%s", id))...), mqttString("guest")...)
	answer := make([]byte, 4)
	if err = c.packet(0x10, body); err == nil {
		_, err = io.ReadFull(c, answer)
	}
	if err == nil && answer[3] != 0 {
		err = errors.New("refused")
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect as %s: %w (%x)", id, err, answer)
	}
	return c, c.SetDeadline(time.Time{})
}

func (c *mqttClient) subscribe(topic string) {
	_ = c.packet(0x82, append(append([]byte{0, 1}, mqttString(topic)...), 0))
}

func (c *mqttClient) publish(topic string, payload []byte) error {
	return c.packet(0x30, append(mqttString(topic), payload...))
}

func (c *mqttClient) packet(kind byte, body []byte) error {
	header := binary.AppendUvarint([]byte{kind}, uint64(len(body)))
	_, err := c.Write(append(header, body...))
	return err
}

func mqttString(text string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(text))), text...)
}
