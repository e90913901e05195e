package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func parse(t *testing.T, text string) (*Config, error) {
	t.Helper()
	variables := map[string]string{"HZ": "49", "PASSWORD": `a"b: #c`, "EMPTY": ""}
	return Parse([]byte(text), func(name string) (string, bool) {
		value, ok := variables[name]
		return value, ok
	})
}

func TestConfigRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"bogus: 1": "line 1: unknown key bogus",
		"sampling:\n  frequency: 19\n  windw: 15s":     "line 3: unknown key windw",
		"sinks:\n  - name: a\n    kind: directory":     "line 3: unknown key kind",
		"sampling: {frequency: often}":                 "line 1: cannot unmarshal",
		"sampling: {frequency: 0}":                     "sampling.frequency: 0 is not 1 to",
		"sampling: {window: 15s, profile: 20s}":        "sampling.profile: 20s is no multiple",
		"sampling: {window: 1ms}":                      "sampling.window: 1ms is below 1s",
		"targets: {nodes: ['(']}":                      "targets.nodes: error parsing regexp",
		"targets: {interval: 1ms}":                     "targets.interval",
		"rules: /no/such/file":                         "rules: \"/no/such/file\" is neither auto",
		"spool: relative":                              "spool: \"relative\" is not an absolute path",
		"http: {listen: '0.0.0.0:9767'}":               "http.listen: 0.0.0.0:9767 can be reached by others",
		"http: {listen: nonsense}":                     "http.listen:",
		"http: {web_config: /no/such/file}":            "http.web_config:",
		"http: {max_scrapes: 0}":                       "http.max_scrapes",
		"beside: {distribution: all}":                  "beside.distribution: \"all\" is none of",
		"beside: {logs: maybe}":                        "beside.logs",
		"a: [":                                         "line 1:",
		"labels:\n  a: b\n  region: ${NONE}":           "line 3: the environment has no variable \"NONE\"",
		"sinks: [{name: x, type: nonsense, url: 'x'}]": "sinks[0].type",
		"spool: /a\nspool: /b":                         "line 2:",
	} {
		if _, err := parse(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestConfigSaysAllThatIsWrong: not one thing after the other.
func TestConfigSaysAllThatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte("one: 1\ntwo: 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	if want := path + ":1: unknown key one\n" + path + ":2: unknown key two"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestConfigVariables(t *testing.T) {
	c, err := parse(t, "sampling:\n  frequency: ${HZ}\nlabels: {quoted: 'x${HZ}y', empty: '${EMPTY}'}\n"+
		"sinks:\n- {name: a, type: http, url: 'http://localhost:1', auth: {username: u, password: '${PASSWORD}'}}")
	if err != nil {
		t.Fatal(err)
	}
	if c.Sampling.Frequency != 49 || c.Labels["quoted"] != "x49y" || c.Labels["empty"] != "" || string(c.Sinks[0].Auth.Password) != `a"b: #c` {
		t.Errorf("%+v", c)
	}
	var printed bytes.Buffer
	if err := c.Write(&printed); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(printed.String(), "#c") || !strings.Contains(printed.String(), "<secret>") {
		t.Errorf("a secret is shown, or not told to be there:\n%s", &printed)
	}
}

// TestConfigPrint: what is printed of an empty file has all defaults, and is a
// configuration that means the same.
func TestConfigPrint(t *testing.T) {
	empty, err := parse(t, "")
	if err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	if err := empty.Write(&printed); err != nil {
		t.Fatal(err)
	}
	again, err := parse(t, printed.String())
	if err != nil {
		t.Fatalf("%v in\n%s", err, &printed)
	}
	if !reflect.DeepEqual(empty, again) {
		t.Errorf("%+v became %+v", empty, again)
	}
	if again.Sampling != (Sampling{19, 15 * time.Second, time.Minute}) || again.HTTP.Listen != "127.0.0.1:9767" {
		t.Errorf("%+v", again)
	}
}

// TestExamples: what the package installs is right.
func TestExamples(t *testing.T) {
	if _, err := Load("../packaging/agent.yaml"); err != nil {
		t.Error(err)
	}
}
