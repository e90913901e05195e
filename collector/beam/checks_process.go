package beam

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/beamprof/beamprof/collector/beam/memory"
)

const (
	checkedProcesses = 256     // processes that are looked at
	scannedSlots     = 1 << 22 // slots of the process table searched for them
	slotsPerRead     = 1 << 13
	checkRounds      = 4    // looks at a process that does not agree: it may be running or ending
	requiredShare    = 0.9  // of the processes that must agree
	minimumAgreement = 0.75 // of fewer than ten
)

// slotted is a process and the slot of the process table it was found in.
type slotted struct{ slot, addr uint64 }

// verdict is what one check says of one process.
type verdict uint8

const (
	irrelevant verdict = iota // the process does not have what is checked
	agrees
	differs
)

func agreesIf(ok bool) verdict {
	if ok {
		return agrees
	}
	return differs
}

// processChecks compare what the head of a process says with something else.
// Every VM has processes of which each can be said: kernel's servers.
var processChecks = []struct {
	name, what string
	test       func(*Target, slotted, []byte) verdict
}{
	{"process table", "are in the slot of their pid", (*Target).checkSlot},
	{"heaps", "have their heap and stack in order", (*Target).checkHeap},
	{"stacks", "have the VM's exit code at the root of their stack", (*Target).checkRoot},
	{"initial calls", "were spawned with a function", (*Target).checkInitial},
	{"program counters", "go on in code of the VM", (*Target).checkCounter},
	{"parents", "have a pid as parent", (*Target).checkParent},
	{"process schedulers", "run on one of the schedulers or on none", (*Target).checkProcessScheduler},
	{"registered names", "are the ones their name leads to", (*Target).checkRegistered},
	{"process dictionaries", "keep the initial call that proc_lib was given", (*Target).checkDictionary},
}

// checkProcesses runs processChecks on a sample of the VM's processes.
func (t *Target) checkProcesses() ([]Check, error) {
	sample, err := t.sampleProcesses()
	if err != nil {
		return nil, fmt.Errorf("%w: process table: %w", ErrUnsupported, err)
	}
	agreed, looked := make([]int, len(processChecks)), make([]int, len(processChecks))
	for round := range checkRounds {
		if round > 0 {
			time.Sleep(time.Millisecond << round)
			if err := t.RefreshCode(); err != nil {
				return nil, err
			}
		}
		last := round == checkRounds-1
		sample = slices.DeleteFunc(sample, func(p slotted) bool {
			verdicts := t.checkProcess(p)
			if slices.Contains(verdicts, differs) && !last {
				return false // look again
			}
			for i, v := range verdicts {
				if v != irrelevant {
					looked[i]++
				}
				if v == agrees {
					agreed[i]++
				}
			}
			return true
		})
	}
	checks := make([]Check, len(processChecks))
	for i, c := range processChecks {
		checks[i] = Check{
			Name:   c.name,
			OK:     looked[i] > 0 && enough(agreed[i], looked[i]),
			Detail: fmt.Sprintf("%d of %d processes %s", agreed[i], looked[i], c.what),
		}
	}
	return checks, nil
}

// enough tells whether so many processes agree that the others can be ones that changed meanwhile.
func enough(agreed, looked int) bool {
	share := requiredShare
	if looked < 10 {
		share = minimumAgreement
	}
	return float64(agreed) >= share*float64(looked)
}

// checkProcess runs all checks on one process. One that has ended since is irrelevant.
func (t *Target) checkProcess(p slotted) []verdict {
	verdicts := make([]verdict, len(processChecks))
	head, err := t.readHead(p.addr)
	if err != nil || !t.isThere(p) {
		return verdicts
	}
	for i, c := range processChecks {
		verdicts[i] = c.test(t, p, head)
	}
	return verdicts
}

// isThere tells whether a process is still in its slot.
func (t *Target) isThere(p slotted) bool {
	addr, err := memory.Uint64(t.Memory, t.processes.slots+8*p.slot)
	return err == nil && addr == p.addr
}

// sampleProcesses collects processes from the process table.
func (t *Target) sampleProcesses() ([]slotted, error) {
	var sample []slotted
	slots := make([]byte, 8*slotsPerRead)
	for at := uint64(0); at < uint64(min(t.processes.max, scannedSlots)) && len(sample) < checkedProcesses; {
		part := slots[:8*min(slotsPerRead, uint64(t.processes.max)-at)]
		if err := t.Memory.Read(part, t.processes.slots+8*at); err != nil {
			return nil, err
		}
		for ; len(part) > 0; part, at = part[8:], at+1 {
			addr := binary.NativeEndian.Uint64(part)
			if t.isProcess(addr) && len(sample) < checkedProcesses {
				sample = append(sample, slotted{at, addr})
			}
		}
	}
	if len(sample) == 0 {
		return nil, errors.New("it is empty")
	}
	return sample, nil
}

func (t *Target) checkSlot(p slotted, head []byte) verdict {
	id := headWord(head, t.Layout.Process.ID)
	return agreesIf(IsPID(id) && t.slot(id) == p.slot)
}

// checkHeap: the heap grows up from heap to htop, the stack down from hend to stop.
func (t *Target) checkHeap(_ slotted, head []byte) verdict {
	l := &t.Layout.Process
	low, top, stop, end := headWord(head, l.Heap), headWord(head, l.HTop), headWord(head, l.Stop), headWord(head, l.HEnd)
	return agreesIf(low != 0 && low <= top && top <= stop && stop < end && (low|top|stop|end)%8 == 0)
}

// checkRoot: the last word of every stack is the return address to the code
// that ends the process, in both frame layouts (erl_create_process in erl_process.c).
func (t *Target) checkRoot(_ slotted, head []byte) verdict {
	word, err := memory.Uint64(t.Memory, headWord(head, t.Layout.Process.HEnd)-8)
	return agreesIf(err == nil && word == t.NormalExit)
}

func (t *Target) checkInitial(_ slotted, head []byte) verdict {
	_, ok := t.name(t.spawnedWith(head))
	return agreesIf(ok)
}

// checkCounter: a process that is not running has its next instruction saved.
func (t *Target) checkCounter(_ slotted, head []byte) verdict {
	return agreesIf(t.Code.Contains(headWord(head, t.Layout.Process.I)))
}

// checkParent: processes that the VM itself or another node started have another parent.
func (t *Target) checkParent(_ slotted, head []byte) verdict {
	parent := headWord(head, t.Layout.Process.Parent)
	if text, ok := t.Atom(parent); ok && text == "undefined" {
		return irrelevant
	}
	if _, ok := boxed(parent); ok {
		return irrelevant
	}
	return agreesIf(IsPID(parent))
}

func (t *Target) checkProcessScheduler(p slotted, _ []byte) verdict {
	addr, err := memory.Uint64(t.Memory, p.addr+uint64(t.Layout.Process.Scheduler))
	if err != nil {
		return irrelevant
	}
	return agreesIf(addr == 0 || slices.ContainsFunc(t.Schedulers, func(s Scheduler) bool { return s.Data == addr }))
}

func (t *Target) checkRegistered(p slotted, head []byte) verdict {
	at := headWord(head, t.Layout.Process.Registered)
	if at == 0 {
		return irrelevant
	}
	_, ok := t.registeredName(at, p.addr)
	return agreesIf(ok)
}

func (t *Target) checkDictionary(_ slotted, head []byte) verdict {
	at := headWord(head, t.Layout.Process.Dictionary)
	if at == 0 || !t.isProcLib(t.spawnedWith(head)) {
		return irrelevant
	}
	t.identifying.Lock()
	defer t.identifying.Unlock()
	_, err := t.dictionaryCall(at)
	if errors.Is(err, errAbsent) {
		return irrelevant
	}
	return agreesIf(err == nil)
}
