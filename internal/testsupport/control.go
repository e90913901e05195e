package testsupport

import (
	_ "embed" // for controlSource
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const controlModule = "beamprof_testvm"

//go:embed beamprof_testvm.erl
var controlSource string

// control is the test's side of the two pipes to the VM's controlModule. A
// message is a 4-byte big-endian length and that many bytes. Pipes of their
// own leave the VM's stdin, stdout and stderr to what runs in it, and tell
// both sides when the other one died.
type control struct {
	mutex    sync.Mutex // one question at a time
	requests *os.File
	replies  *os.File
}

// newControl makes the pipes and returns also the VM's ends: to read, to write.
func newControl() (*control, [2]*os.File, error) {
	requestsTheirs, requests, err := os.Pipe()
	if err != nil {
		return nil, [2]*os.File{}, err
	}
	replies, repliesTheirs, err := os.Pipe()
	if err != nil {
		requestsTheirs.Close()
		requests.Close()
		return nil, [2]*os.File{}, err
	}
	return &control{requests: requests, replies: replies}, [2]*os.File{requestsTheirs, repliesTheirs}, nil
}

// Close ends the conversation; the VM halts when it notices.
func (c *control) Close() {
	c.requests.Close()
	c.replies.Close()
}

// replyLimit bounds a reply; a listing of all code of a VM is a few MiB.
const replyLimit = 256 << 20

func (c *control) receive(timeout time.Duration) ([]byte, error) {
	if err := c.replies.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	var header [4]byte
	if _, err := io.ReadFull(c.replies, header[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the VM has ended")
		}
		return nil, err
	}
	length := binary.BigEndian.Uint32(header[:])
	if length > replyLimit {
		return nil, fmt.Errorf("reply of %d bytes", length)
	}
	reply := make([]byte, length)
	_, err := io.ReadFull(c.replies, reply)
	return reply, err
}

// ask sends a request of one kind and returns the reply without its status.
func (c *control) ask(kind byte, expression string) ([]byte, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	request := binary.BigEndian.AppendUint32(nil, uint32(1+len(expression)))
	request = append(request, kind)
	request = append(request, expression...)
	if err := c.requests.SetWriteDeadline(time.Now().Add(evalTimeout)); err != nil {
		return nil, err
	}
	if _, err := c.requests.Write(request); err != nil {
		return nil, err
	}
	reply, err := c.receive(evalTimeout)
	if err != nil {
		return nil, err
	}
	if len(reply) == 0 || reply[0] != 'o' {
		return nil, fmt.Errorf("the VM says %s", strings.TrimPrefix(string(reply), "e"))
	}
	return reply[1:], nil
}

// TryEval evaluates Erlang expressions, separated by commas, in the VM and
// returns the value of the last one as Erlang text on one line (~0tp). All are
// evaluated by one process, registered as beamprof_evaluator, which keeps the
// variables bound from call to call. Calls from several goroutines take turns.
//
// The expressions are interpreted, funs in them too: what shall be profiled
// under its own name belongs into a module.
func (vm *VM) TryEval(expressions string) (string, error) {
	value, err := vm.control.ask('t', expressions)
	return string(value), err
}

// Eval is TryEval for the test's own goroutine: it fails the test on errors.
func (vm *VM) Eval(t testing.TB, expressions string) string {
	t.Helper()
	value, err := vm.TryEval(expressions)
	if err != nil {
		t.Fatalf("evaluating %s: %v", expressions, err)
	}
	return value
}

// EvalBytes evaluates expressions whose value is a binary or an iolist and
// returns its bytes.
func (vm *VM) EvalBytes(t testing.TB, expressions string) []byte {
	t.Helper()
	value, err := vm.control.ask('b', expressions)
	if err != nil {
		t.Fatalf("evaluating %s: %v", expressions, err)
	}
	return value
}

// EvalInt evaluates expressions whose value is an integer.
func (vm *VM) EvalInt(t testing.TB, expressions string) int64 {
	t.Helper()
	text := vm.Eval(t, expressions)
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("value of %s: %v", expressions, err)
	}
	return value
}
