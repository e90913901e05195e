package testsupport

import (
	"crypto/rand"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Cluster lets VMs that a test starts find and trust each other: it has an
// epmd and a cookie of its own, apart from whatever runs on the machine.
type Cluster struct {
	Cookie string
	// Port is where the cluster's epmd listens, on 127.0.0.1 only.
	Port int
}

// NewCluster starts an epmd that ends with the test.
func NewCluster(t testing.TB) *Cluster {
	t.Helper()
	RequireErlang(t)
	cluster := &Cluster{Cookie: rand.Text()}
	// Another program may take a free port before epmd does: try a few.
	for attempt := 0; attempt < 5; attempt++ {
		cluster.Port = freePort(t)
		if cluster.startEPMD(t) {
			return cluster
		}
	}
	t.Fatal("epmd does not answer on any of the ports tried")
	return nil
}

// startEPMD tells whether epmd came up on the cluster's port.
func (c *Cluster) startEPMD(t testing.TB) bool {
	t.Helper()
	cmd := exec.Command(beside(Erl(), "epmd"), "-port", strconv.Itoa(c.Port), "-address", "127.0.0.1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting epmd: %v", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-exited
	})
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); {
		connection, err := net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", c.Port), time.Second)
		if err == nil {
			connection.Close()
			return true
		}
		select {
		case <-exited:
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	return false
}

func freePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// flags are erl's for a node of the cluster that listens on loopback only.
func (c *Cluster) flags(name string) []string {
	return []string{
		"-sname", name + "@localhost", "-setcookie", c.Cookie, "-start_epmd", "false",
		"-kernel", "inet_dist_use_interface", "{127,0,0,1}",
	}
}

func (c *Cluster) environment() []string {
	return []string{fmt.Sprintf("ERL_EPMD_PORT=%d", c.Port), "ERL_EPMD_ADDRESS=127.0.0.1"}
}
