package connections

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/bpf"
)

// packets is a packet socket in the VM's network namespace, whose filter looks at
// what is said first on connections. It goes with this process, however it ends.
type packets struct {
	program *bpf.MQTTProgram
	socket  int // -1: closed
	budget  float64
	counts  bpf.PacketCounts
	looked  time.Time
}

// openPackets opens the socket. No packet passes the filter before start.
func openPackets(pid int, programs *bpf.ConnectionPrograms) (_ *packets, err error) {
	p := &packets{socket: -1, budget: budget}
	if p.program, err = bpf.LoadMQTT(programs); err != nil {
		return nil, err
	}
	err = inNamespace(pid, func() (err error) {
		// Without a protocol it gets no packet. Packets begin at their network
		// header, in all kinds of devices.
		p.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return os.NewSyscallError("socket", err)
	})
	if err == nil {
		err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(p.socket, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, p.program.Filter.FD()))
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("open a packet socket in the VM's network namespace: %w", err)
	}
	return p, nil
}

// start lets packets pass the filter.
func (p *packets) start() error {
	p.looked = time.Now()
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00 // in network order
	if err := unix.Bind(p.socket, &unix.SockaddrLinklayer{Protocol: all}); err != nil {
		return fmt.Errorf("start the filter of what clients say: %w", err)
	}
	return nil
}

// The filter may take so much of one core; what the kernel does to show a packet
// that is sent to it (a copy of its head) comes to sentCost.
const (
	budget       = 0.1
	sentCost     = 100 * time.Nanosecond
	lookInterval = time.Second // at least
)

// look starts the filter, and takes it out if it costs too much, and says so.
func (p *packets) look() error {
	if p.looked.IsZero() {
		return p.start()
	}
	elapsed := time.Since(p.looked)
	if p.socket < 0 || elapsed < lookInterval {
		return nil
	}
	counts, err := p.program.Counts()
	if err != nil {
		return err
	}
	packets, cost := counts.Packets-p.counts.Packets, time.Duration(0)
	if timed := counts.Timed - p.counts.Timed; timed > 0 {
		cost = time.Duration(float64(counts.Nanoseconds-p.counts.Nanoseconds) / float64(timed) * float64(packets))
	}
	cost += time.Duration(packets/2) * sentCost
	p.counts, p.looked = counts, time.Now()
	if share := cost.Seconds() / elapsed.Seconds(); share > p.budget {
		p.stop()
		return fmt.Errorf("%.0f packets/s cost %.1f%% of a core, more than %.0f%%", float64(packets)/elapsed.Seconds(), 100*share, 100*p.budget)
	}
	return nil
}

func (p *packets) stop() {
	if p.socket >= 0 {
		unix.Close(p.socket)
		p.socket = -1
	}
}

func (p *packets) close() error {
	p.stop()
	return p.program.Close()
}
