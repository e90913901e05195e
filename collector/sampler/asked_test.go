package sampler_test

import (
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beamprof/beamprof/internal/testsupport"
)

//go:embed testdata/asked*.erl
var askedFiles embed.FS

// askedModules are the servers of every behaviour and what calls them.
func askedModules(t testing.TB) map[string]string {
	t.Helper()
	modules := map[string]string{}
	files, err := askedFiles.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := askedFiles.ReadFile(path.Join("testdata", file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		modules[strings.TrimSuffix(file.Name(), ".erl")] = string(source)
	}
	return modules
}

// work is what a sample inside a callback must say: the function that does the
// work tells what was asked for.
type work struct {
	request string
	caller  string // what asked:who/0 calls it, if it was a call
}

// works are the functions of asked.erl that do the work of one request. What is
// neither an atom nor a tuple that begins with one has no tag.
var works = map[string]work{
	"asked:on_atom/0":       {"atom", "atom"},
	"asked:on_tuple/0":      {"tuple", "tuple"},
	"asked:on_short/0":      {"short", "short"},
	"asked:on_literal/0":    {"literal", "literal"},
	"asked:on_large/0":      {"large", "large"},
	"asked:on_single/0":     {"single", "single"},
	"asked:on_list/0":       {"", "list"},
	"asked:on_string/0":     {"", "string"},
	"asked:on_nested/0":     {"", "nested"},
	"asked:on_remote/0":     {"remote", "remote"},
	"asked:on_sync_event/0": {"sync_event", "sync_event"},
	"asked:on_cast/0":       {"cast", ""},
	"asked:on_cast_atom/0":  {"cast_atom", ""},
	"asked:on_info/0":       {"info", ""},
	"asked:on_info_atom/0":  {"info_atom", ""},
	"asked:on_event/0":      {"event", ""},
	"asked:on_timeout/0":    {"timeout", ""},
	"asked:on_continue/0":   {"continue", ""},
	"asked:on_internal/0":   {"internal", ""},
	"asked:on_enter/0":      {"next", ""},
}

// askedShare counts how many samples of one kind of work say what they must.
type askedShare struct {
	samples, request, caller int
	wrong                    map[string]int
}

// TestWhoAsked compares the request and the caller of every sample inside a
// callback with what the stack above the callback tells: requests of every
// shape, from callers of every kind, to servers of every behaviour.
func TestWhoAsked(t *testing.T) {
	testsupport.RequireBPF(t)
	var all askedTotal
	for _, behaviour := range []string{
		"server", "server_debug", "server_hibernate", "server_timeout", "state_functions", "handle_event_function", "statem_debug", "event", "fsm", "fsm_debug",
	} {
		t.Run(behaviour, func(t *testing.T) { all.add(testBehaviour(t, behaviour)) })
	}
	if all.share() < 0.995 {
		t.Errorf("%.2f%% of %d samples say what was asked and who asked, want 99.5%%", 100*all.share(), all.samples)
	}
}

// askedTotal counts samples, and those that say what they must.
type askedTotal struct{ samples, right int }

func (a *askedTotal) add(b askedTotal) { a.samples, a.right = a.samples+b.samples, a.right+b.right }
func (a *askedTotal) share() float64   { return float64(a.right) / float64(a.samples) }

func testBehaviour(t *testing.T, behaviour string, flags ...string) askedTotal {
	vm := testsupport.StartVM(t, testsupport.Options{
		Flags:   append([]string{"+S", "2", "+sbwt", "none"}, flags...),
		Modules: askedModules(t),
		Eval:    "S = asked:start(" + behaviour + ")",
	})
	server := vm.Eval(t, "S")
	who := map[string]string{"": ""}
	for line := range strings.Lines(string(vm.EvalBytes(t, "asked:who()"))) {
		what, kind, _ := strings.Cut(strings.TrimSpace(line), " ")
		who[what] = kind
	}
	time.Sleep(200 * time.Millisecond)
	samples, stats := profile(t, vm, 1999, 2*time.Second)
	total := checkAsked(t, samples, server, who)
	t.Logf("%d samples, %d lost, %d partial, %d truncated", stats.Samples, stats.Lost, stats.Partial, stats.Truncated)
	return total
}

// checkAsked checks the samples of a server that are inside of its callbacks. While
// the collector moves a request it cannot always be read.
func checkAsked(t *testing.T, samples []captured, server string, who map[string]string) askedTotal {
	t.Helper()
	shares := map[string]*askedShare{}
	var all askedTotal
	outside := map[string]int{}
	for _, s := range samples {
		if s.Process == nil || s.Process.PID != server {
			continue
		}
		names := s.erlang()
		at := slices.IndexFunc(names, func(name string) bool { _, ok := works[name]; return ok })
		if at < 0 {
			if s.Request != "" || s.OnBehalfOf != "" {
				outside[fmt.Sprintf("request %q for %q in %s", s.Request, s.OnBehalfOf, strings.Join(names[:min(6, len(names))], " < "))]++
			}
			continue
		}
		want := works[names[at]]
		share := shares[names[at]]
		if share == nil {
			share = &askedShare{wrong: map[string]int{}}
			shares[names[at]] = share
		}
		share.samples++
		all.samples++
		if s.Request == want.request {
			share.request++
		}
		if s.OnBehalfOf == who[want.caller] {
			share.caller++
		}
		if s.Request == want.request && s.OnBehalfOf == who[want.caller] {
			all.right++
			continue
		}
		share.wrong[fmt.Sprintf("request %q for %q in %s", s.Request, s.OnBehalfOf, strings.Join(names[:min(6, len(names))], " < "))]++
	}
	if all.samples < 500 {
		t.Errorf("only %d samples are inside of callbacks", all.samples)
	}
	if all.share() < 0.99 {
		t.Errorf("%.2f%% of %d samples say what was asked and who asked, want 99%%", 100*all.share(), all.samples)
	}
	for name, share := range shares {
		if share.request < share.samples || share.caller < share.samples {
			t.Logf("%-22s %4d samples, request right in %4d, caller in %4d", name, share.samples, share.request, share.caller)
			logMost(t, share.wrong, 1)
		}
	}
	t.Logf("with a request outside of the callbacks' work:")
	logMost(t, outside, 3)
	return all
}

// logMost logs what was seen most often.
func logMost(t testing.TB, seen map[string]int, most int) {
	t.Helper()
	var keys []string
	for key := range seen {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int { return seen[b] - seen[a] })
	for _, key := range keys[:min(most, len(keys))] {
		t.Logf("    %d times: %s", seen[key], key)
	}
}
