package connections

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/internal/pace"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// namespaceVariable makes the test binary a server in a network namespace of its own.
const namespaceVariable = "BEAMPROF_TEST_NAMESPACE"

func TestMain(m *testing.M) {
	if port := os.Getenv(namespaceVariable); port != "" {
		if err := serveAlone(port); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serveAlone listens on a port of the loopback addresses, and connects to itself
// as many times as the lines it reads say.
func serveAlone(port string) error {
	if err := loopbackUp(); err != nil {
		return err
	}
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	go broker(l)
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		for range n {
			c, err := net.Dial("tcp", "127.0.0.1:"+port)
			if err != nil {
				return err
			}
			p := connectPacket{level: 4, id: "alone"}
			if _, err := c.Write(p.bytes()); err != nil {
				return err
			}
			if _, err := readPacket(c); err != nil {
				return err
			}
			c.Close()
		}
		fmt.Println("done")
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// Connections to the same port in another network namespace are not the target's,
// whichever of both it is in.
func TestNamespaces(t *testing.T) {
	testsupport.RequireBPF(t)
	here := listen(t, "tcp", ":0")
	go broker(here)
	port := here.Addr().(*net.TCPAddr).Port
	server := exec.Command(os.Args[0])
	server.Env = append(os.Environ(), fmt.Sprintf("%s=%d", namespaceVariable, port))
	server.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	server.Stderr = os.Stderr
	input, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		input.Close()
		server.Wait()
	}()
	lines := bufio.NewReader(output)
	expect := func(want string) {
		t.Helper()
		if line, err := lines.ReadString('\n'); err != nil || strings.TrimSpace(line) != want {
			t.Fatalf("the server says %q, %v", line, err)
		}
	}
	expect("ready")

	inside, outside := watch(t, server.Process.Pid), watch(t, os.Getpid())
	const there, ours = 30, 20
	fmt.Fprintln(input, there)
	expect("done")
	for range ours {
		connect(t, "tcp4", fmt.Sprintf("127.0.0.1:%d", port), connectPacket{level: 4, id: "here"}.bytes())
	}
	time.Sleep(50 * time.Millisecond)
	for _, one := range []struct {
		*watched
		want int
		id   string
	}{{inside, there, "alone"}, {outside, ours, "here"}} {
		total, all := one.total(uint16(port)), one.closedConnections()
		if int(total.Opened) != one.want || int(total.Closed) != one.want || len(all) != one.want {
			t.Errorf("%+v and %d connections, want %d", total, len(all), one.want)
		}
		for _, c := range all {
			if c.Connect == nil || c.Connect.ClientID != one.id {
				t.Errorf("a connection of %+v, want %s", c.Connect, one.id)
			}
		}
	}
}

// A listener that was opened while the session runs is the target's, too; one of
// another process is not. Without one there is no filter that costs anything.
func TestListeners(t *testing.T) {
	w := watch(t, os.Getpid())
	if w.packets.Load() != nil {
		t.Error("a filter of what clients say, and nothing that they could connect to")
	}
	l := listen(t, "tcp", ":0")
	go broker(l)
	time.Sleep(2 * pace.Interval)
	connect(t, "tcp", fmt.Sprintf("127.0.0.1:%d", l.Addr().(*net.TCPAddr).Port), connectPacket{level: 4, id: "new"}.bytes())
	time.Sleep(50 * time.Millisecond)
	if total := w.end(l); total.Opened != 1 || total.Closed != 1 {
		t.Errorf("%+v", total)
	}
	if all := w.closedConnections(); len(all) != 1 || all[0].Connect == nil {
		t.Errorf("%+v", all)
	}
}
