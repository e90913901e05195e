package attribution

import "github.com/beamprof/beamprof/collector"

// Why a sample is unattributed.
const (
	ReasonNoRule     = "no rule fits"
	ReasonNoCaller   = "who asked is not known"
	ReasonNoParent   = "who spawned it is not known"
	ReasonNoOwner    = "the port's owner is not known"
	ReasonNoEvidence = "nobody it may have worked for was sampled"
	ReasonByRule     = "the rules leave it so"
)

// verdict is what was decided about a sample: a workload, or to split it.
type verdict struct {
	workload int // number; of one to be split what it is if nothing tells, or that of Unattributed
	basis    string
	reason   string
	split    bool
	rule     int                // whose selections to split it by
	subject  *collector.Process // for the scopes same process and same kind
}

// maxChain bounds how many processes may decide in turn.
const maxChain = 16

// decide applies the rules to a sample. matched are the matchers that hold for
// the sample itself.
func (a *Attributor) decide(s *collector.Sample) (v verdict, matched set) {
	a.chain = append(a.chain[:0], actor{
		process: s.Process, port: s.Port, request: s.Request, kind: s.RequestType,
		stack: s.Stack, thread: s.Thread, state: s.State,
	})
	for i := range s.Callers {
		if len(a.chain) == maxChain {
			break
		}
		c := &s.Callers[i]
		a.chain[i].caller = c.Process
		a.chain = append(a.chain, actor{process: c.Process, request: c.Request, kind: c.RequestType, stack: c.Stack})
	}
	if len(s.Callers) == 0 && s.OnBehalfOf != "" {
		asked := a.named(s.OnBehalfOf)
		a.chain[0].caller = asked
		a.chain = append(a.chain, actor{process: asked})
	}
	matched = a.match.matches(&a.chain[0])
	v, _ = a.apply(0, matched)
	return v, matched
}

// apply applies the rule that holds for an actor of the chain; ok is false if
// it does not decide.
func (a *Attributor) apply(i int, matched set) (v verdict, ok bool) {
	r := matched.first()
	if r < 0 || r >= len(a.rules.Rules) {
		return a.undecided(ReasonNoRule), false
	}
	rule := &a.rules.Rules[r]
	v = a.undecided(ReasonByRule)
	for n, step := range rule.Then {
		switch step.Kind {
		case StepWorkload:
			return a.decided(step.Workload, rule.When.basis()), true
		case StepApplication:
			if name := cached(a.applications, a.chain[i].process, application); name != "" {
				return verdict{workload: a.number(name), basis: rule.When.basis()}, true
			}
			v = a.undecided(ReasonNoRule)
		case StepApportion:
			v = a.undecided(ReasonNoEvidence)
			if n+1 < len(rule.Then) {
				v = a.decided(rule.Then[n+1].Workload, BasisProcess)
			}
			v.split, v.rule, v.subject = true, r, a.chain[i].process
			return v, true
		case StepCaller:
			if v, ok = a.caller(i); ok {
				return v, true
			}
		case StepParent:
			if v, ok = a.parent(i); ok {
				return v, true
			}
		case StepOwner:
			if v, ok = a.owner(i); ok {
				return v, true
			}
		}
	}
	return v, false
}

func (a *Attributor) undecided(reason string) verdict {
	return verdict{workload: a.unattributed, basis: BasisNone, reason: reason}
}

func (a *Attributor) decided(workload, basis string) verdict {
	if workload == Unattributed {
		return a.undecided(ReasonByRule)
	}
	return verdict{workload: a.number(workload), basis: basis}
}

// caller decides as the process that waits for an actor.
func (a *Attributor) caller(i int) (verdict, bool) {
	if i+1 >= len(a.chain) {
		return a.undecided(ReasonNoCaller), false
	}
	v, ok := a.apply(i+1, a.match.matches(&a.chain[i+1]))
	if ok && v.basis != BasisNone {
		v.basis = BasisCaller
	}
	return v, ok
}

// parent decides as the process that spawned an actor.
func (a *Attributor) parent(i int) (verdict, bool) {
	p := a.chain[i].process
	if p == nil || p.Parent == "" || p.Parent == p.Kind {
		return a.undecided(ReasonNoParent), false
	}
	return a.alone(actor{process: a.named(p.Parent)}, BasisParent)
}

// owner decides as the process that owns the port an actor executes.
func (a *Attributor) owner(i int) (verdict, bool) {
	port := a.chain[i].port
	if port == nil || port.Owner == nil {
		return a.undecided(ReasonNoOwner), false
	}
	return a.alone(actor{process: port.Owner}, BasisProcess)
}

// alone applies the rules to an actor that nobody waits for.
func (a *Attributor) alone(other actor, basis string) (verdict, bool) {
	n := len(a.chain)
	if n >= 2*maxChain {
		return a.undecided(ReasonNoRule), false
	}
	a.chain = append(a.chain, other)
	v, ok := a.apply(n, a.match.matches(&other))
	a.chain = a.chain[:n]
	if ok && v.basis != BasisNone {
		v.basis = basis
	}
	return v, ok
}
