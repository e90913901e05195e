package spool

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const childVariable = "BEAMPROF_TEST_SPOOL"

// TestMain runs the process that TestKilledAtRandomMoments kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		pushAndRemove(dir)
		return
	}
	os.Exit(m.Run())
}

// content is the payload of a number; its length differs.
func content(number uint64) string {
	return strings.Repeat(fmt.Sprintf("payload %d ", number), 1+int(number*7919%977))
}

// pushAndRemove fills the queue and takes from it, and says what it has done:
// "+ N" when N is in the queue, "- N" before it is removed.
func pushAndRemove(dir string) {
	q, err := Open(dir, roomy, func(reason string) { fmt.Println("dropped:", reason) })
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("ready")
	for i := 0; ; i++ {
		number := q.next
		if err := q.Push(time.Now(), []byte(content(number))); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("+", number)
		if i%3 == 0 {
			item, err := q.Next(0, time.Now())
			if err != nil || item == nil {
				fmt.Println("nothing in the queue", err)
				return
			}
			fmt.Println("-", item.Number)
			q.Remove(item.Number)
		}
	}
}

// TestKilledAtRandomMoments: what was acknowledged before a SIGKILL is there
// after it and was not changed, in order.
func TestKilledAtRandomMoments(t *testing.T) {
	dir := t.TempDir()
	inQueue := map[uint64]bool{}  // acknowledged
	removing := map[uint64]bool{} // may be gone
	pushes := 0
	for round := range 100 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childVariable+"="+dir)
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
		killed := time.AfterFunc(time.Duration(rand.IntN(20_000))*time.Microsecond, func() { child.Process.Kill() })
		for lines.Scan() {
			var what string
			var number uint64
			if _, err := fmt.Sscan(lines.Text(), &what, &number); err != nil {
				t.Fatalf("round %d: the child says %q", round, lines.Text())
			}
			if what == "+" {
				inQueue[number] = true
				pushes++
			} else {
				removing[number] = true
			}
		}
		killed.Stop()
		child.Process.Kill()
		child.Wait()
		checkQueue(t, dir, inQueue, removing)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	if pushes < 100 {
		t.Errorf("only %d pushes before 100 kills: this shows nothing", pushes)
	}
	t.Logf("%d pushes, %d removals, 100 kills", pushes, len(removing))
}

func checkQueue(t *testing.T, dir string, inQueue, removing map[uint64]bool) {
	t.Helper()
	q, err := Open(dir, roomy, func(reason string) { t.Error("dropped:", reason) })
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	found := map[uint64]bool{}
	for last := uint64(0); ; {
		item, err := q.Next(last, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if item == nil {
			break
		}
		if item.Number <= last || string(item.Payload) != content(item.Number) {
			t.Errorf("payload %d after %d is not what was pushed", item.Number, last)
		}
		last = item.Number
		found[last] = true
		inQueue[last] = true // written, if not acknowledged
	}
	for number := range inQueue {
		switch {
		case !found[number] && !removing[number]:
			t.Errorf("payload %d was acknowledged and is lost", number)
		case !found[number]:
			delete(inQueue, number)
		}
	}
}
