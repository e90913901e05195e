package gen

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// installed returns the OTP release that is installed and its stdlib's modules.
func installed(t *testing.T) (release, modules string) {
	t.Helper()
	testsupport.RequireErlang(t)
	out, err := exec.Command(testsupport.Erl(), "-noshell", "-eval",
		`io:format("~s ~s", [erlang:system_info(otp_release), filename:dirname(code:which(gen_server))]), halt().`).Output()
	if err != nil {
		t.Fatal(err)
	}
	release, modules, ok := strings.Cut(string(out), " ")
	if !ok {
		t.Fatalf("%q", out)
	}
	return release, modules
}

// site is a call in a behaviour's frame, as slots.escript describes it.
type site struct {
	function, callee string
	words            int
	slots            map[string]int
}

func readSites(t *testing.T, modules string) []site {
	t.Helper()
	arguments := []string{"slots/slots.escript"}
	for _, module := range []string{"gen_server", "gen_statem", "gen_fsm", "gen_event"} {
		arguments = append(arguments, filepath.Join(modules, module+".beam"))
	}
	out, err := exec.Command(filepath.Join(filepath.Dir(testsupport.Erl()), "escript"), arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var sites []site
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) < 3 {
			t.Fatalf("line %q", line)
		}
		s := site{function: fields[0], callee: fields[1], slots: map[string]int{}}
		if _, err := fmt.Sscan(fields[2], &s.words); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		for _, field := range fields[3:] {
			what, register, _ := strings.Cut(field, "=")
			var y int
			if _, err := fmt.Sscan(register, &y); err != nil {
				t.Fatalf("line %q: %v", line, err)
			}
			s.slots[what] = y
		}
		sites = append(sites, s)
	}
	return sites
}

// callbacks are the callees behind which callbacks run, by function.
func (s site) callsBack() bool {
	for _, part := range []string{"callback/", ":try_dispatch/", ":try_handle_call/", ":dispatch/", ":server_notify/", ":server_call/", ":server_delete_handler/"} {
		if strings.Contains(s.callee, part) {
			return true
		}
	}
	return false
}

// TestTableOfInstalledRelease compares the table of the installed OTP with what
// its compiled modules say: at every call of a callback the registers are where
// the table says, and no other call has a frame of the same size with something
// else in them.
func TestTableOfInstalledRelease(t *testing.T) {
	release, modules := installed(t)
	table := For(release)
	if table == nil {
		t.Skipf("there is no table for OTP %s", release)
	}
	matched := map[string]int{}
	for _, s := range readSites(t, modules) {
		var match *frame
		for i, f := range table.frames[s.function] {
			if f.words == s.words {
				match = &table.frames[s.function][i]
			}
		}
		if match == nil {
			if s.callsBack() {
				t.Errorf("not in the table: %+v", s)
			}
			continue
		}
		if !s.callsBack() {
			// Nothing may stand there that could be taken for something else.
			for what, y := range s.slots {
				if what != "from" && y == match.from || what == "from" && y == match.request {
					t.Errorf("%+v has %s where the table has something else: %+v", s, what, match)
				}
			}
			continue
		}
		matched[s.function]++
		if y, ok := s.slots["from"]; ok != (match.from != none) || ok && y != match.from {
			t.Errorf("the caller is elsewhere than in %+v: %+v", match, s)
		}
		if y, ok := s.slots[match.form.String()]; ok != (match.request != none) || ok && y != match.request {
			t.Errorf("the request is elsewhere than in %+v: %+v", match, s)
		}
	}
	for function := range table.frames {
		if matched[function] == 0 {
			t.Errorf("%s calls no callback in this OTP", function)
		}
	}
}
