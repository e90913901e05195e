package upload

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

const childVariable = "BEAMPROF_TEST_UPLOAD"

type childT struct{ testing.TB }

func (childT) Helper()           {}
func (childT) Fatal(args ...any) { fmt.Println(args...); os.Exit(1) }

// addForever is the process that TestKilledWhileSending kills: it says the ID of
// each profile that it has added.
func addForever(url, spool string) {
	p, err := New([]Config{{Name: "sink", Type: "http", URL: url}}, spool, zerolog.Nop())
	if err != nil {
		fmt.Println(err)
		return
	}
	go p.Run(context.Background())
	fmt.Println("ready")
	for i := 0; ; i++ {
		profile := small(childT{}, i%3)
		profile.Start = time.Now()
		if err := p.Add(profile); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(profile.ID())
	}
}

// TestKilledWhileSending: what was added before a SIGKILL arrives, whatever the
// process was doing, and what arrives twice has one ID.
func TestKilledWhileSending(t *testing.T) {
	b, spool := newBackend(t), t.TempDir()
	added := map[string]bool{}
	for round := range 100 {
		child := exec.Command(os.Args[0], spool)
		child.Env = append(os.Environ(), childVariable+"=http://"+b.address+"/")
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() || lines.Text() != "ready" {
			t.Fatalf("round %d: the child says %q", round, lines.Text())
		}
		killed := time.AfterFunc(time.Duration(rand.IntN(60_000))*time.Microsecond, func() { child.Process.Kill() })
		for lines.Scan() {
			if len(lines.Text()) == 36 { // whole
				added[lines.Text()] = true
			}
		}
		killed.Stop()
		child.Process.Kill()
		child.Wait()
	}
	p := start(t, spool, b.config("sink"))
	s := await(t, p, "the queue drains", func(s []SinkStats) bool { return s[0].QueuedProfiles == 0 })
	times := map[string]int{}
	for _, id := range b.arrived() {
		times[id]++
	}
	for id := range added {
		if times[id] == 0 {
			t.Errorf("%s was added and is lost", id)
		}
	}
	twice := len(b.arrived()) - len(times)
	t.Logf("%d profiles were acknowledged before 100 kills, %d arrived, %d of them twice", len(added), len(times), twice)
	if len(s[0].Dropped) > 0 || len(added) < 50 {
		t.Errorf("%d added, dropped %v", len(added), s[0].Dropped)
	}
}
