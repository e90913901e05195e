// Package sinks sends profiles to where they are kept: directories and the
// continuous-profiling back ends, each in its own protocol.
//
// A sink only tries: it neither waits nor tries again. What it returns says
// whether that would help.
package sinks

import (
	"context"
	"fmt"
	"time"

	"github.com/beamprof/beamprof/profiles/upload/limits"
)

// Sink takes profiles.
type Sink interface {
	// Prepare makes of a profile what is sent, within the limits of servers, and
	// says what had to be left out. Its error means that no server would take it.
	Prepare(p *Profile) (Delivery, limits.Report, error)
	// Close gives back what the sink holds, once no Delivery is under way.
	Close() error
}

// Delivery sends a profile once. Its error is a *Failure.
type Delivery func(ctx context.Context) error

// Why a profile was not taken. The first group is final.
const (
	ReasonInvalid  = "invalid"   // not a profile
	ReasonTooOld   = "too_old"   // the server says so
	ReasonTooLarge = "too_large" // the server says so
	ReasonLabels   = "too_many_labels"
	ReasonRefused  = "refused" // anything else the server has against it

	ReasonNetwork      = "network"
	ReasonTimeout      = "timeout"
	ReasonUnauthorized = "unauthorized"   // whatever is sent
	ReasonEndpoint     = "wrong_endpoint" // the server does not know what is asked of it
	ReasonRateLimited  = "rate_limited"
	ReasonServer       = "server_error"
	ReasonLocal        = "local_error" // a full disk, a token that cannot be read
)

// Failure says why a profile was not taken.
type Failure struct {
	Reason string
	Final  bool          // trying again would not help
	Outage bool          // it would have been the same with any profile
	After  time.Duration // not to be tried again before; 0 if the server did not say
	Err    error
}

func (f *Failure) Error() string { return fmt.Sprintf("%s: %v", f.Reason, f.Err) }
func (f *Failure) Unwrap() error { return f.Err }

// New makes the sink that a valid configuration with defaults describes. It
// reads the files that the configuration names and connects to nothing.
func New(c Config) (Sink, error) {
	switch c.Type {
	case TypeDirectory:
		return newDirectory(c)
	case TypePyroscope:
		return newIngest(c)
	case TypePyroscopePush:
		return newPush(c)
	case TypeOTLPGRPC, TypeParca:
		return newOTLPGRPC(c)
	case TypeOTLPHTTP:
		return newOTLPHTTP(c)
	case TypeHTTP:
		return newPoster(c)
	}
	return nil, fmt.Errorf("type: %q is not known", c.Type)
}
