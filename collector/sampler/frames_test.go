package sampler

import "testing"

func TestSourceName(t *testing.T) {
	for name, want := range map[string]string{
		"finish_task_switch.isra.0":  "finish_task_switch",
		"do_poll.constprop.0":        "do_poll",
		"erts_poll_wait.part.0.cold": "erts_poll_wait",
		"scheduler_wait.lto_priv.0":  "scheduler_wait",
		"erts_schedule":              "erts_schedule",
		".part.0":                    ".part.0",
		"[kernel]+0x10":              "[kernel]+0x10",
	} {
		if got := sourceName(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}
