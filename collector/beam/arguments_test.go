package beam

import (
	"strings"
	"testing"

	"github.com/beamprof/beamprof/internal/testsupport"
)

func TestBusyWaitOf(t *testing.T) {
	for line, want := range map[string]string{
		"beam.smp":                                               "medium",
		"beam.smp -sbwt none -- -root /usr":                      "none",
		"beam.smp -sbwtvery_long -A 64":                          "very_long",
		"beam.smp -sbwt long -sbwt short -- -x":                  "short",
		"beam.smp -sbwtdcpu none -sbwtdio none":                  "medium",
		"beam.smp -sbwt none -sbwtdcpu long":                     "none",
		"beam.smp -- -root /usr -extra -sbwt none":               "medium",
		"beam.smp -sbwt":                                         "medium",
		"beam.smp -sbwt what":                                    "medium",
		"/opt/erts/bin/beam.smp -S 2:2 -sbwt very_short -W w --": "very_short",
	} {
		if got := busyWaitOf(strings.Fields(line)); got != want {
			t.Errorf("%s: %s, not %s", line, got, want)
		}
	}
}

// TestBusyWaitOfVM: flags come to the command line from wherever they are given.
func TestBusyWaitOfVM(t *testing.T) {
	for _, c := range []struct {
		options testsupport.Options
		want    string
	}{
		{testsupport.Options{Flags: []string{"+sbwt", "very_long"}}, "very_long"},
		{testsupport.Options{Env: []string{"ERL_ZFLAGS=+sbwt none"}}, "none"},
	} {
		if got := attachTo(t, testsupport.StartVM(t, c.options)).BusyWait; got != c.want {
			t.Errorf("%+v: %q", c.options, got)
		}
	}
	if got := readBusyWait(0); got != "" {
		t.Errorf("%q of no process", got)
	}
}
