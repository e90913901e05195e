package sinks

import (
	"context"
	"errors"
	"net"
	"net/url"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/profiles/v1development"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/beamprof/beamprof/profiles/upload/limits"
)

// otlpGRPC exports to an OTLP receiver over gRPC; also to Parca, which takes the
// name of a profile from the scope.
type otlpGRPC struct {
	*access
	connection *grpc.ClientConn
}

func newOTLPGRPC(c Config) (Sink, error) {
	a := newAccess(c)
	config, err := a.tlsConfig()
	if err != nil {
		return nil, err
	}
	transport := insecure.NewCredentials()
	if config != nil {
		transport = credentials.NewTLS(config)
	}
	// Proxies from the environment are gRPC's default. Keepalive has the kernel end
	// a connection that lost its way; the time is what servers allow by default.
	connection, err := grpc.NewClient(grpcTarget(c.URL), grpc.WithTransportCredentials(transport), grpc.WithUserAgent("beamprof"),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 5 * time.Minute, Timeout: deadAfter}))
	if err != nil {
		return nil, errors.New("url: gRPC cannot use it")
	}
	return &otlpGRPC{a, connection}, nil
}

// grpcTarget is HOST:PORT of a valid URL.
func grpcTarget(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func (s *otlpGRPC) Close() error { return s.connection.Close() }

func (s *otlpGRPC) Prepare(p *Profile) (Delivery, limits.Report, error) {
	scope := scopeName
	if s.config.Type == TypeParca {
		scope = profileName(p.Kind)
	}
	request, report, err := export(&s.config, p, scope, maxMessageBytes)
	if err != nil {
		return nil, report, err
	}
	return func(ctx context.Context) error {
		headers, err := s.headers()
		if err != nil {
			return err
		}
		for name, values := range headers {
			if name != "User-Agent" {
				ctx = metadata.AppendToOutgoingContext(ctx, name, values[0])
			}
		}
		response, err := collector.NewProfilesServiceClient(s.connection).Export(ctx, request, grpc.UseCompressor(gzip.Name))
		if err != nil {
			return s.failed(status.Convert(err))
		}
		return s.partial(response)
	}, report, nil
}

// failed says what a status means: as the OTLP specification does, but statuses
// that come of a proxy's errors are tried again.
func (s *otlpGRPC) failed(st *status.Status) *Failure {
	f := &Failure{Err: errors.New(st.Code().String() + ": " + s.message(st.Message()))}
	for _, detail := range st.Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			f.After = max(retry.GetRetryDelay().AsDuration(), 0)
		}
	}
	switch st.Code() {
	case codes.Unavailable:
		f.Reason, f.Outage = ReasonNetwork, true
	case codes.Aborted, codes.Canceled:
		f.Reason = ReasonNetwork
	case codes.DeadlineExceeded:
		f.Reason = ReasonTimeout
	case codes.ResourceExhausted:
		f.Reason = ReasonRateLimited
		if refusal(st.Message()) == ReasonTooLarge {
			f.Reason, f.Final = ReasonTooLarge, true
		}
	case codes.Unauthenticated, codes.PermissionDenied:
		f.Reason, f.Outage = ReasonUnauthorized, true
	case codes.Unimplemented, codes.NotFound:
		f.Reason, f.Outage = ReasonEndpoint, true
	case codes.Internal, codes.Unknown, codes.DataLoss:
		f.Reason = ReasonServer
	default:
		f.Reason, f.Final = refusal(st.Message()), true
	}
	return f
}
