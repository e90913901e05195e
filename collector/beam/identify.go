package beam

import (
	"errors"
	"fmt"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam/memory"
)

// HeadSize is how many bytes of a Process Identify can use, at most: all that
// it needs is in its first half.
const HeadSize = 512

const (
	// knownProcesses is how many processes are remembered.
	knownProcesses = 1 << 14
	// identifyAttempts is how many samples of a process may look for what its
	// name needs and could not be read, before it keeps what is known.
	identifyAttempts = 8
	// dictionaryAttempts is how often one sample looks at a dictionary that changes.
	dictionaryAttempts = 3
	// unknownProcess names a process of which nothing but its pid could be
	// read: it was ending when it was first seen.
	unknownProcess = "unknown"
	// spawnedFunction is what the VM notes as the initial call of a process that was spawned with a fun.
	spawnedFunction = "erlang:apply/2"
	// procLibFunction is what it notes of the processes of proc_lib, with an arity.
	procLibFunction = "proc_lib:init_p/"
)

// identity is what is known of a process.
type identity struct {
	process    *collector.Process
	registered uint64 // address of its reg_proc when it was read
	attempts   int    // that found it incomplete
	complete   bool
}

// identities remembers processes by their pid terms. A VM uses a pid again only
// after all others, which are 2^28 or more.
type identities = lru.Cache[uint64, *identity]

// Copied are terms that were copied when a process ran, as it may be gone when
// it is looked at: zeros where they were not.
type Copied struct {
	InitialCall [3]uint64 // {M,F,A} of proc_lib's $initial_call in its dictionary
	Collecting  bool      // garbage was collected meanwhile: InitialCall may be copied half, as it was under way itself
	Name        uint64    // the atom it is registered as
}

// Identify names the process at addr. head is a copy of its first bytes (as
// many as Layout.Process needs, HeadSize do), taken when it ran, and holds what
// it says against what is in memory now. root is the name of the function at
// the root of its stack, empty if not known. copied is what was copied with it.
//
// The same process yields the same pointer as long as its name stays the same.
// What can't be read, because the process has ended, is left out: the error
// tells only that head is no process.
func (t *Target) Identify(addr uint64, head []byte, root string, copied Copied) (*collector.Process, error) {
	l := &t.Layout.Process
	if len(head) < int(max(l.ID, l.Registered, l.Dictionary, l.Parent, l.Initial+t.Layout.MFA.Size-8)+8) {
		return nil, fmt.Errorf("identify process at %#x: only %d bytes of it", addr, len(head))
	}
	pid := headWord(head, l.ID)
	if !IsPID(pid) {
		return nil, fmt.Errorf("identify process at %#x: %#x is not a pid", addr, pid)
	}
	registered := headWord(head, l.Registered)

	t.identifying.Lock()
	defer t.identifying.Unlock()
	known, ok := t.identities.Get(pid)
	if ok && known.complete && (known.registered == registered || registered == 0) {
		return known.process, nil
	}
	if !ok {
		known = &identity{process: &collector.Process{PID: t.Layout.PID.format(pid), Parent: t.parent(head)}}
		t.identities.Add(pid, known)
	}
	if known.registered != registered {
		known.attempts = 0
	}
	process := *known.process
	known.complete = t.describe(&process, addr, head, registered, root, copied)
	known.attempts++
	known.complete = known.complete || known.attempts >= identifyAttempts
	known.registered = registered
	if process != *known.process {
		known.process = &process
	}
	return known.process, nil
}

// describe fills in what is not known of a process, or has changed. It tells
// whether there is nothing more to learn.
func (t *Target) describe(p *collector.Process, addr uint64, head []byte, registered uint64, root string, copied Copied) (complete bool) {
	complete = true
	if registered != 0 {
		text, ok := t.Atom(copied.Name) // 0 is no atom
		name := atomName(text)
		if !ok {
			name, ok = t.registeredName(registered, addr)
		}
		if ok {
			p.RegisteredName = name
		}
		complete = ok
	}
	call, final := t.initialCall(addr, head, copied)
	if call != "" && (final || p.InitialCall == "" || strings.HasPrefix(p.InitialCall, procLibFunction)) {
		p.InitialCall = call
	}
	complete = complete && final
	switch {
	case p.RegisteredName != "":
		p.Name, p.Kind = p.RegisteredName, Kind(p.RegisteredName)
		return complete
	case p.InitialCall != "" && p.InitialCall != spawnedFunction:
		p.Name = p.InitialCall
	case root != "" && root != spawnedFunction && isProvisional(p.Name):
		p.Name = root
	case p.Name == "" && p.InitialCall != "":
		p.Name = p.InitialCall
	case p.Name == "":
		p.Name = unknownProcess
	}
	p.Kind = p.Name
	return complete && !isProvisional(p.Name)
}

// parent returns the kind of the process that a process says spawned it, as
// far as that one is still there or was seen before. It is called once per
// process, under the lock: the parent is looked at, not its own parent.
func (t *Target) parent(head []byte) string {
	pid := headWord(head, t.Layout.Process.Parent)
	if known, ok := t.identities.Peek(pid); ok {
		return known.process.Kind
	}
	addr, ok := t.ProcessByPID(pid)
	if !ok {
		return ""
	}
	parent, err := t.readHead(addr)
	if err != nil || headWord(parent, t.Layout.Process.ID) != pid {
		return ""
	}
	var p collector.Process
	t.describe(&p, addr, parent, headWord(parent, t.Layout.Process.Registered), "", Copied{})
	return p.Kind
}

// isProvisional tells whether a name only says that none is known yet.
func isProvisional(name string) bool {
	return name == "" || name == spawnedFunction || name == unknownProcess
}

// registeredName reads the name that the reg_proc at an address gives a process.
func (t *Target) registeredName(at, process uint64) (string, bool) {
	l := &t.Layout.Name
	entry := make([]byte, max(l.Process, l.Name)+8)
	if t.Memory.Read(entry, at) != nil || headWord(entry, l.Process) != process {
		return "", false
	}
	text, ok := t.Atom(headWord(entry, l.Name))
	return atomName(text), ok
}

// initialCall returns the function a process was spawned with; of one that
// proc_lib started, the function proc_lib was told. final tells whether another
// look would not say more.
func (t *Target) initialCall(addr uint64, head []byte, copied Copied) (call string, final bool) {
	spawned := t.spawnedWith(head)
	dictionary := headWord(head, t.Layout.Process.Dictionary)
	// The VM uses the module's place for other things when the process exits.
	ending := !IsAtom(spawned.module)
	if !ending && !t.isProcLib(spawned) {
		call, ok := t.name(spawned)
		return call, ok
	}
	told := ""
	if f, err := toMFA(t.Memory, copied.InitialCall); err == nil {
		told, _ = t.name(f)
	}
	if told != "" && !copied.Collecting {
		return told, true
	}
	for range dictionaryAttempts {
		call, err := t.dictionaryCall(dictionary)
		if err == nil && t.hasDictionary(addr, head, dictionary) {
			return call, true
		}
		if errors.Is(err, errAbsent) {
			break
		}
	}
	switch {
	case told != "":
		return told, false
	case ending:
		return t.entered(spawned), false
	}
	call, _ = t.name(spawned)
	return call, false
}

// entered tells what a process that is ending was spawned with if that is one of
// the two functions which mean something without their module: all others may be in
// any.
func (t *Target) entered(f mfa) string {
	function, _ := t.Atom(f.function)
	switch {
	case function == "apply" && f.arity == 2:
		return spawnedFunction
	case function == "init_p" && f.arity <= maxArity:
		return fmt.Sprint(procLibFunction, f.arity)
	}
	return ""
}

// hasDictionary tells whether a process is still there and has this dictionary.
// Of one that has ended another process may have the memory by now.
func (t *Target) hasDictionary(addr uint64, head []byte, dictionary uint64) bool {
	now, ok := t.ProcessByPID(headWord(head, t.Layout.Process.ID))
	if !ok || now != addr {
		return false
	}
	at, err := memory.Uint64(t.Memory, addr+uint64(t.Layout.Process.Dictionary))
	return err == nil && at == dictionary
}

// spawnedWith returns what the head of a process says it was spawned with.
func (t *Target) spawnedWith(head []byte) mfa {
	at, l := t.Layout.Process.Initial, &t.Layout.MFA
	return mfa{headWord(head, at+l.Module), headWord(head, at+l.Function), headWord(head, at+l.Arity)}
}

// isProcLib tells whether a function is proc_lib:init_p, with which proc_lib
// starts all its processes. Their initial call is then what proc_lib keeps in
// the dictionary (proc_lib:translate_initial_call/1, c:i/0).
func (t *Target) isProcLib(f mfa) bool {
	module, _ := t.Atom(f.module)
	function, _ := t.Atom(f.function)
	return module == "proc_lib" && function == "init_p"
}

// dictionaryCall reads $initial_call from a process dictionary.
func (t *Target) dictionaryCall(at uint64) (string, error) {
	if at == 0 {
		return "", errAbsent
	}
	if t.initialCallKey == 0 {
		// A VM that was just started may not have had the atom at attach.
		key, ok := t.AtomNamed("$initial_call")
		if !ok {
			return "", errAbsent
		}
		t.initialCallKey = key
	}
	f, err := dictionaryMFA(t.Memory, &t.Layout.Dictionary, at, t.initialCallKey)
	if err != nil {
		return "", err
	}
	call, ok := t.name(f)
	if !ok {
		return "", errTorn
	}
	return call, nil
}

// readHead copies the head of the process at an address.
func (t *Target) readHead(addr uint64) ([]byte, error) {
	head := make([]byte, HeadSize)
	return head, t.Memory.Read(head, addr)
}
