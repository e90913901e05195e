package attribution

import (
	"errors"
	"strings"
	"testing"

	"github.com/beamprof/beamprof/collector"
)

// TestParseErrors: what is wrong is said, and where.
func TestParseErrors(t *testing.T) {
	const head = "name: x\nworkloads: {a: '', b: ''}\n"
	for _, c := range []struct{ text, want string }{
		{"", "f:1:1: the file is empty"},
		{"name: [", "f:1:1: "},
		{"- a\n", "f:1:1: the file: expected keys and values"},
		{"name: x\n", "f:1:1: workloads is missing"},
		{head + "ruls: []\n", `f:3:1: unknown key "ruls"`},
		{head + "rules: []\nname: y\n", `f:4:1: the file: "name" stands twice`},
		{head + "rules: []\n---\nname: y\n", "a second document"},
		{"name: x\nworkloads: {A: ''}\nrules: []\n", `f:2:13: workload "A"`},
		{"name: x\nworkloads: {caller: ''}\nrules: []\n", `f:2:13: "caller" has a meaning of its own`},
		{head + "rules:\n  - {when: {process: p}, then: c}\n", `f:4:32: no workload "c": the file declares a, b`},
		{head + "rules:\n  - {when: {proces: p}, then: a}\n", `f:4:13: unknown key "proces"`},
		{head + "rules:\n  - {wen: {}, then: a}\n", `f:4:6: unknown key "wen"`},
		{head + "rules:\n  - {then: a}\n", "f:4:5: when is missing"},
		{head + "rules:\n  - {when: {}}\n", "f:4:5: then is missing"},
		{head + "rules:\n  - {when: {}, then: []}\n", "f:4:22: then is empty"},
		{head + "rules:\n  - {when: {process: []}, then: a}\n", "f:4:22: no pattern"},
		{head + "rules:\n  - {when: {process: ''}, then: a}\n", "f:4:22: empty pattern"},
		{head + "rules:\n  - {when: {process: {a: b}}, then: a}\n", "f:4:22: expected a word"},
		{head + "rules:\n  - {when: {process: $l}, then: a}\n", `f:4:22: no list "l"`},
		{head + "rules:\n  - {when: {function: proc_lib}, then: a}\n", `f:4:23: function "proc_lib": write module:function/arity`},
		{head + "rules:\n  - {when: {state: busy}, then: a}\n", `f:4:20: no state "busy": there are other, emulator`},
		{head + "rules:\n  - {when: {type: ask}, then: a}\n", `f:4:19: no type of request "ask"`},
		{head + "rules:\n  - {when: {}, then: [a, b]}\n", `f:4:26: never tried: "a" before it always decides`},
		{head + "rules:\n  - {when: {}, then: [caller, caller]}\n", `f:4:31: "caller" is tried already`},
		{head + "rules:\n  - {when: {}, then: apportion}\n", "f:4:22: apportion needs over"},
		{head + "rules:\n  - {when: {}, then: [apportion, caller], over: same process}\n", "f:4:34: after apportion only a workload can follow"},
		{head + "rules:\n  - {when: {}, then: a, over: same process}\n", "f:4:31: over is only for apportion"},
		{head + "rules:\n  - {when: {}, then: apportion, over: others}\n", "f:4:39: over is conditions, same process, same kind, or messages"},
		{head + "rules:\n  - {when: {}, then: apportion, over: {}}\n", "f:4:39: a selection needs conditions"},
		{head + "lists: {l: [$m]}\nrules: []\n", "f:3:13: a list can't refer to another one"},
		{head + "rules:\n" + strings.Repeat("  - {when: {process: p}, then: a}\n", 257), "more than 256 rules and selections"},
		{head + "rules: []\nlogs: {a: b}\n", "f:4:7: logs: expected a list"},
		{head + "rules: []\nlogs:\n  - {about: x, lines: long enough}\n", "f:5:5: signal is missing"},
		{head + "rules: []\nlogs:\n  - {signal: S, about: x, lines: long enough}\n", `f:5:14: signal "S": names are`},
		{head + "rules: []\nlogs:\n  - {signal: s, lines: long enough}\n", "f:5:5: about is missing"},
		{head + "rules: []\nlogs:\n  - {signal: s, about: x}\n", "f:5:5: a signal has lines, or"},
		{head + "rules: []\nlogs:\n  - {signal: s, about: x, lines: short}\n", `f:5:34: pattern "short": no literal part of at least 8`},
		{head + "rules: []\nlogs:\n  - {signal: s, about: x, lines: [long enough, 'and {x} too {X}']}\n", "f:5:48: pattern \"and {x} too {X}\": {X: a field is"},
		{head + "rules: []\nlogs:\n  - {signal: s, about: x, lines: long enough, lnes: x}\n", `f:5:47: unknown key "lnes"`},
		{head + "rules: []\nlogs:\n  - {signal: s, about: x, lines: long enough}\n  - {signal: s, about: x, lines: also long}\n", `f:6:14: the signal "s" stands twice`},
		{head + "rules: []\nlogs:\n  - {signal: s, about: x, of: t, repeats: x, times: 3}\n", `f:5:31: no signal "t" with lines`},
		{head + "rules: []\nlogs:\n  - {signal: s, about: x, lines: 'long enough {x}'}\n  - {signal: t, about: x, of: s, repeats: y, times: 3}\n", `f:6:5: repeats must name a field`},
		{head + "rules: []\nlogs:\n  - {signal: s, about: x, lines: 'long enough {x}'}\n  - {signal: t, about: x, of: s, repeats: x, times: 1}\n", `f:6:5: times must be`},
		{head + "rules: []\nlogs:\n  - {signal: s, about: x, lines: [" + strings.Repeat("long enough,", 65) + "]}\n", "more than 64 patterns"},
		{head + "rules: []\ndiagnosis: {bad_luck: {about: x}}\n", `f:4:13: no cause "bad_luck": there are client_connection_storm`},
		{head + "rules: []\ndiagnosis: {none_of_these: {about: x}}\n", "f:4:13: the threshold cores is missing"},
		{head + "rules: []\ndiagnosis: {none_of_these: {thresholds: {cores: {at: 1, because: x}}}}\n", "f:4:13: about is missing"},
		{head + "rules: []\ndiagnosis: {none_of_these: {about: x, thresholds: {cores: {at: 1}}}}\n", "f:4:59: because is missing"},
		{head + "rules: []\ndiagnosis: {none_of_these: {about: x, thresholds: {cores: {at: many, because: x}}}}\n", "f:4:59: at must be a number above 0"},
		{head + "rules: []\ndiagnosis: {none_of_these: {about: x, thresholds: {shares: {at: 1, because: x}}}}\n", `f:4:52: no threshold "shares": none_of_these has cores`},
		{head + "rules: []\ndiagnosis: {none_of_these: {about: x, workloads: c, thresholds: {cores: {at: 1, because: x}}}}\n", `f:4:50: no workload "c"`},
		{head + "rules: []\ndiagnosis: {none_of_these: {about: x, signals: c, thresholds: {cores: {at: 1, because: x}}}}\n", `f:4:48: no signal "c" in logs`},
		{"name: &a x\nabout: *a\nworkloads: {}\nrules: []\n", "f:2:8: expected text"},
	} {
		_, err := Parse("f", []byte(c.text))
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q:\ngot  %v\nwant %s", c.text, err, c.want)
		}
	}
}

// TestProblems: rules that never decide, and what nothing uses.
func TestProblems(t *testing.T) {
	rules := parse(t, `name: x
workloads: {a: "", b: ""}
lists: {used: ["m:*"], unused: ["n:*"]}
rules:
  - {when: {process: "vmq_*"}, then: a}
  - {when: {process: vmq_queue, request: x}, then: a}
  - {when: {process: [vmq_reg, "vmq_reg_*"]}, then: a}
  - {when: {process: [vmq_reg, other]}, then: a}
  - {when: {process: [vmq_swc, other], state: gc}, then: a}
  - {when: {function: $used}, then: a}
  - {when: {function: "m:f/1", process: p}, then: a}
  - {when: {process: "*q*"}, then: a}
  - {when: {}, then: a}
  - {when: {state: gc}, then: a}
logs:
  - {signal: s, about: x, lines: "client {_} failed to connect"}
  - signal: t
    about: x
    lines: ["why client {_} failed to connect", "client {_} failed to connect due to {reason}"]
`)
	var got []string
	for _, p := range rules.Problems() {
		got = append(got, p.String())
	}
	want := []string{
		`test.yaml:2:20: no rule leads to the workload "b"`,
		`test.yaml:3:24: no rule uses the list "unused"`,
		"test.yaml:6:5: this rule is never reached: the one in line 5 holds wherever it would",
		"test.yaml:7:5: this rule is never reached: the one in line 5 holds wherever it would",
		"test.yaml:9:5: this rule is never reached: one of those in lines 5, 8 holds wherever it would",
		"test.yaml:11:5: this rule is never reached: the one in line 10 holds wherever it would",
		"test.yaml:14:5: this rule is never reached: the one in line 13 holds wherever it would",
		"test.yaml:19:49: this pattern is never reached: the one in line 16 holds wherever it would",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern pattern
		s       string
		want    bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"*", "", true}, {"*", "x", true}, {"a*", "a", true}, {"a*", "ab", true}, {"a*", "ba", false},
		{"*a", "ba", true}, {"*a", "ab", false}, {"a*b*c", "a1b2c", true}, {"a*b*c", "acb", false}, {"a*a", "a", false}, {"**", "x", true}, {"a*bc*bc", "abcbc", true},
	} {
		if got := c.pattern.matches(c.s); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.s, got)
		}
	}
	for _, c := range []struct {
		p, q pattern
		want bool
	}{{"a*", "ab*", true}, {"ab*", "a*", false}, {"*", "*", true}, {"a*c", "ab*c", true}, {"*b*", "ab", true}} {
		if got := c.p.covers(c.q); got != c.want {
			t.Errorf("%q covers %q: %v", c.p, c.q, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range Names() {
		data, _ := Source(name)
		f.Add(data)
	}
	f.Add([]byte("name: x\nworkloads: {a: ''}\nrules:\n  - {when: {process: '*'}, then: [caller, apportion, a], over: [same process, {state: gc}]}\n"))
	f.Add([]byte("name: x\nworkloads: {a: ''}\nrules: []\nlogs:\n  - {signal: s, about: x, lines: ['got {x} in {_} state', long enough]}\n  - {signal: t, about: x, of: s, repeats: x, times: 3}\n" +
		"diagnosis: {none_of_these: {about: x, workloads: a, signals: s, advice: [y], thresholds: {cores: {at: 1, because: x}}}}\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rules, err := Parse("f", data)
		var e *Error
		if err != nil && (!errors.As(err, &e) || len(e.Problems) == 0 || len(e.Problems) > maxProblems) {
			t.Fatalf("%v", err)
		}
		if err != nil {
			for _, p := range e.Problems {
				if p.Line < 1 || p.Column < 1 {
					t.Fatalf("no position: %v", p)
				}
			}
			return
		}
		// Whatever is accepted attributes anything without losing time.
		w := newWho()
		var time int64
		a := New(rules, period, func(_ *collector.Sample, p Part) { time += p.Nanoseconds })
		a.Add(w.asked(w.sample("p < q", "call r", "m:f/1", "#c"), "q | call s | m:g/1", "p"))
		a.Add(w.native("pool"))
		a.Close()
		if time != 2*period {
			t.Fatalf("%d ns of %d", time, 2*period)
		}
	})
}
