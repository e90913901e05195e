package window

import (
	"github.com/beamprof/beamprof/collector/logs"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/summary"
	"github.com/beamprof/beamprof/profiles/text"
)

// Signals returns what a rule set looks for in logs.
func Signals(rules *attribution.Rules) []logs.Signal {
	var signals []logs.Signal
	for _, s := range rules.Signals {
		signals = append(signals, s.Signal)
	}
	return signals
}

// Log returns a summary's part of a signal, in a window of so many seconds.
func Log(c logs.Count, about string, seconds float64) summary.Log {
	l := summary.Log{
		Signal: c.Signal.Name, Of: c.Signal.Of, About: about, Count: c.Count, InWindow: c.InWindow, First: c.First.UTC(), Last: c.Last.UTC(), Example: text.Clean(c.Example),
	}
	if seconds > 0 {
		l.PerSecond = float64(c.InWindow) / seconds
	}
	for _, v := range c.Values {
		fields := map[string]string{}
		for name, value := range v.Fields {
			fields[name] = text.Clean(value)
		}
		l.Values = append(l.Values, summary.LogValues{Fields: fields, Count: v.Count, InWindow: v.InWindow})
	}
	return l
}
