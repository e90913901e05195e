package beam

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// compareInfo compares what was read from memory with what the VM says.
func compareInfo(t *testing.T, vm *testsupport.VM, info Info) {
	t.Helper()
	want := Info{
		PID:                vm.PID,
		Executable:         info.Executable,
		Node:               strings.Trim(vm.Eval(t, "node()"), "'"),
		Release:            strings.Trim(vm.Eval(t, "erlang:system_info(otp_release)"), `"`),
		ERTS:               strings.Trim(vm.Eval(t, "erlang:system_info(version)"), `"`),
		Flavor:             vm.Eval(t, "erlang:system_info(emu_flavor)"),
		BusyWait:           "medium",
		NormalSchedulers:   int(vm.EvalInt(t, "erlang:system_info(schedulers)")),
		DirtyCPUSchedulers: int(vm.EvalInt(t, "erlang:system_info(dirty_cpu_schedulers)")),
		DirtyIOSchedulers:  int(vm.EvalInt(t, "erlang:system_info(dirty_io_schedulers)")),
	}
	if info != want {
		t.Errorf("read %+v, the VM says %+v", info, want)
	}
	if filepath.Base(info.Executable) != "beam.smp" {
		t.Errorf("executable %s", info.Executable)
	}
}

func TestAttach(t *testing.T) {
	for name, options := range map[string]testsupport.Options{
		"bare":                {},
		"one scheduler":       {Flags: []string{"+S", "1"}},
		"frame pointers":      {Flags: []string{"+JPperf", "true"}},
		"legacy table":        {Flags: []string{"+P", "legacy", "+zdbbl", "1024"}},
		"large process table": {Flags: []string{"+P", "16777216"}},
		"as VerneMQ runs it":  {Flags: []string{"+P", "256000", "+e", "256000", "+Q", "262144", "+A", "64", "+K", "true", "+W", "w", "-smp", "enable"}, Env: []string{"ERL_FULLSWEEP_AFTER=0"}},
		"small heaps":         {Flags: []string{"+hms", "8", "+hmbs", "8"}},
		"node with a name":    {Name: "beamprof_beam_attach"},
	} {
		t.Run(name, func(t *testing.T) {
			vm := testsupport.StartVM(t, options)
			t.Cleanup(func() { removePerfFiles(vm) })
			target := attachTo(t, vm)
			compareInfo(t, vm, target.Info)
			for _, c := range target.Checks() {
				t.Logf("%s: %s", c.Name, c.Detail)
				if !c.OK || c.Detail == "" || c.Remedy != "" {
					t.Errorf("check %+v", c)
				}
			}
			wantLayout := 0
			if name == "frame pointers" {
				wantLayout = 1
			}
			if target.FrameLayout != wantLayout {
				t.Errorf("frame layout %d, not %d", target.FrameLayout, wantLayout)
			}
		})
	}
}

// removePerfFiles removes what a VM with +JPperf leaves in /tmp.
func removePerfFiles(vm *testsupport.VM) {
	os.Remove(vm.PerfMap())
	os.Remove(fmt.Sprintf("/tmp/jit-%d.dump", vm.PID))
}

func TestAttachInNamespaces(t *testing.T) {
	testsupport.RequireRoot(t)
	vm := testsupport.StartVM(t, testsupport.Options{SysProcAttr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}})
	if got := vm.Eval(t, "os:getpid()"); got != `"1"` {
		t.Fatalf("the VM's own pid is %s", got)
	}
	target := attachTo(t, vm)
	compareInfo(t, vm, target.Info)
	compareThreads(t, target)
	for _, s := range target.Schedulers {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", vm.PID, s.TID)); err != nil {
			t.Errorf("%v %d: %v", s.Kind, s.Number, err)
		}
	}
}

func TestNodeNames(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{Name: "beamprof_beam_names"})
	if got, want := attachTo(t, vm).Node, vm.Node; got != want {
		t.Errorf("short name: %s, not %s", got, want)
	}
	// A node that gets its name while it runs, a long one that needs quotes.
	cluster := testsupport.NewCluster(t)
	late := testsupport.StartVM(t, testsupport.Options{
		Flags: []string{"-start_epmd", "false", "-setcookie", cluster.Cookie, "-kernel", "inet_dist_use_interface", "{127,0,0,1}"},
		Env:   []string{fmt.Sprintf("ERL_EPMD_PORT=%d", cluster.Port)},
	})
	if got := attachTo(t, late).Node; got != "nonode@nohost" {
		t.Errorf("no name: %s", got)
	}
	if got := late.Eval(t, "element(1, net_kernel:start(['Beamprof-beam_long@127.0.0.1', longnames]))"); got != "ok" {
		t.Fatalf("starting distribution: %s", got)
	}
	if got := attachTo(t, late).Node; got != "Beamprof-beam_long@127.0.0.1" {
		t.Errorf("long name: %s", got)
	}
}

func TestAttachToWhatIsNoVM(t *testing.T) {
	sleep := exec.Command("sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	pid := sleep.Process.Pid
	_, err := Attach(pid)
	if !errors.Is(err, ErrNotBEAM) || !strings.Contains(err.Error(), "sleep") {
		t.Errorf("sleep: %v", err)
	}
	sleep.Process.Kill()
	sleep.Wait()
	if _, err := Attach(pid); !errors.Is(err, ErrNoProcess) {
		t.Errorf("a process that has ended: %v", err)
	}
	if _, err := Attach(-1); !errors.Is(err, ErrNoProcess) {
		t.Errorf("process -1: %v", err)
	}
	if _, err := Attach(2); err == nil { // a kernel thread, if it is no container
		t.Error("attached to process 2")
	}
}

// permissionVariable tells the test binary that it is to attach as nobody.
const permissionVariable = "BEAMPROF_TEST_ATTACH"

func TestAttachWithoutPermission(t *testing.T) {
	if pid, err := strconv.Atoi(os.Getenv(permissionVariable)); err == nil {
		_, err := Attach(pid)
		fmt.Printf("permission=%v remedy=%v\n", errors.Is(err, ErrPermission), err)
		list, err := List()
		for _, c := range list {
			if c.PID == pid {
				fmt.Printf("listed=%v %v\n", errors.Is(c.Err, ErrPermission), err)
			}
		}
		return
	}
	testsupport.RequireRoot(t)
	vm := testsupport.StartVM(t, testsupport.Options{})
	// The test binary lies where nobody may not look.
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	directory, err := os.MkdirTemp("", "beamprof-beam-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	copied := filepath.Join(directory, "beam.test")
	if err := errors.Join(os.WriteFile(copied, self, 0o755), os.Chmod(directory, 0o755), os.Chmod(copied, 0o755)); err != nil {
		t.Fatal(err)
	}
	nobody := exec.Command(copied, "-test.run", "^TestAttachWithoutPermission$")
	nobody.Dir = directory
	nobody.Env = append(os.Environ(), fmt.Sprintf("%s=%d", permissionVariable, vm.PID))
	nobody.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	text, err := nobody.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, want := range []string{"permission=true", "CAP_SYS_PTRACE", "listed=true"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

// Every check must notice a layout that is not this VM's: whatever field is
// off, attaching is refused instead of guessing.
func TestChecksRefuseWrongLayout(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{Modules: map[string]string{"zoo": zooSource}})
	vm.Eval(t, "zoo:start(200)")
	target := attachTo(t, vm)
	right := *target.Layout
	for name, change := range map[string]func(*Layout){
		"process size":        func(l *Layout) { l.Process.Size += 8 },
		"process id":          func(l *Layout) { l.Process.ID += 8 },
		"registered":          func(l *Layout) { l.Process.Registered += 8 },
		"htop":                func(l *Layout) { l.Process.HTop += 16 },
		"hend":                func(l *Layout) { l.Process.HEnd += 8 },
		"heap":                func(l *Layout) { l.Process.Heap += 8 },
		"dictionary":          func(l *Layout) { l.Process.Dictionary += 8 },
		"initial":             func(l *Layout) { l.Process.Initial -= 8 },
		"program counter":     func(l *Layout) { l.Process.I += 8 },
		"parent":              func(l *Layout) { l.Process.Parent -= 8 },
		"registered name":     func(l *Layout) { l.Name.Name -= 8 },
		"registered process":  func(l *Layout) { l.Name.Process += 8 },
		"dictionary slots":    func(l *Layout) { l.Dictionary.Slots -= 8 },
		"dictionary mask":     func(l *Layout) { l.Dictionary.SizeMask += 8 },
		"atom name":           func(l *Layout) { l.Atom.Name -= 8 },
		"atom index":          func(l *Layout) { l.Atom.Index += 4 },
		"atom length":         func(l *Layout) { l.Atom.Length += 2; l.Atom.Index -= 8 },
		"atom segments":       func(l *Layout) { l.AtomTable.Segments -= 8 },
		"atom buckets":        func(l *Layout) { l.AtomTable.Buckets -= 8 },
		"process slots":       func(l *Layout) { l.Table.Slots += 8 },
		"process table mask":  func(l *Layout) { l.Table.IndexMask += 4 },
		"pid packing":         func(l *Layout) { l.PID.IndexShift = 4 },
		"MFA":                 func(l *Layout) { l.MFA.Module, l.MFA.Arity = l.MFA.Arity, l.MFA.Module },
		"BIF size":            func(l *Layout) { l.BIF.Size += 8 },
		"BIF name":            func(l *Layout) { l.BIF.Name += 8 },
		"scheduler stride":    func(l *Layout) { l.SchedulerSlot.Stride += 64 },
		"scheduler number":    func(l *Layout) { l.Scheduler.Number += 8 },
		"scheduler type":      func(l *Layout) { l.Scheduler.Type += 8 },
		"scheduler thread":    func(l *Layout) { l.Scheduler.ThreadID += 8 },
		"scheduler registers": func(l *Layout) { l.Scheduler.Registers += 72 },
		"freed process":       func(l *Layout) { l.Scheduler.FreeProcess -= 8 },
		"match process":       func(l *Layout) { l.Scheduler.MatchProcess -= 8 },
		"process scheduler":   func(l *Layout) { l.Process.Scheduler += 8 },
	} {
		t.Run(name, func(t *testing.T) {
			wrong := right
			change(&wrong)
			err := attachAs(t, vm.PID, &wrong)
			if !errors.Is(err, ErrUnsupported) {
				t.Errorf("attached: %v", err)
			}
			t.Log(err)
		})
	}
	if err := attachAs(t, vm.PID, &right); err != nil {
		t.Errorf("with the right layout: %v", err)
	}
}

// attachAs attaches with another layout than the release's.
func attachAs(t *testing.T, pid int, layout *Layout) error {
	t.Helper()
	savedLayouts, savedTime := layouts, startupTime
	defer func() { layouts, startupTime = savedLayouts, savedTime }()
	layouts, startupTime = []*Layout{layout}, 0 // the test's VM is not starting
	target, err := Attach(pid)
	if err == nil {
		target.Close()
	}
	return err
}

func TestUnsupportedRelease(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{})
	other := layoutOTP25JITAMD64
	other.Release = "24"
	if err := attachAs(t, vm.PID, &other); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "OTP 24 jit") {
		t.Errorf("another release: %v", err)
	}
	other.Architecture = "riscv64"
	if err := attachAs(t, vm.PID, &other); !errors.Is(err, ErrUnsupported) {
		t.Errorf("another architecture: %v", err)
	}
}

func TestSymbols(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{})
	target := attachTo(t, vm)
	at, ok := target.Symbol("erts_no_schedulers")
	if !ok {
		t.Fatal("no erts_no_schedulers")
	}
	word := make([]byte, 8)
	if err := target.Memory.Read(word, at); err != nil || binary.NativeEndian.Uint64(word) != uint64(target.NormalSchedulers) {
		t.Errorf("erts_no_schedulers is %x (%v)", word, err)
	}
	if at, ok := target.Symbol("no_such_symbol"); ok || at != 0 {
		t.Errorf("no_such_symbol is at %#x", at)
	}
}

// Processes are born, collected and die while the checks look at them.
func TestAttachToBusyVM(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{Modules: map[string]string{"busy": busySource}})
	vm.Eval(t, "busy:start(), [spawn(busy, short, [0]) || _ <- lists:seq(1, 200)], [spawn(busy, churn, []) || _ <- [1, 2, 3, 4]], "+
		"spawn(fun() -> T = ets:new(busy, []), ets:insert(T, [{N} || N <- lists:seq(1, 10000)]), (fun Loop() -> ets:select(T, [{{'$1'}, [{'<', '$1', 0}], ['$1']}]), Loop() end)() end), ok")
	for range 20 {
		target, err := Attach(vm.PID)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range target.Checks() {
			if !c.OK {
				t.Errorf("%+v", c)
			}
		}
		target.Close()
	}
	target := attachTo(t, vm)
	for _, c := range target.Checks() {
		t.Logf("%s: %s", c.Name, c.Detail)
	}
}
