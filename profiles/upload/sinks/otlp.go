package sinks

import (
	"context"
	"errors"
	"strings"

	collector "go.opentelemetry.io/proto/otlp/collector/profiles/v1development"
	"google.golang.org/protobuf/proto"

	"github.com/beamprof/beamprof/profiles/upload/limits"
	"github.com/beamprof/beamprof/profiles/upload/otlp"
)

const scopeName = "github.com/beamprof/beamprof"

// maxMessageBytes is what gRPC servers take by default, with room for a frame.
const maxMessageBytes = 4<<20 - 64<<10

// resourceNames are the labels that OpenTelemetry has names of its own for.
var resourceNames = map[string]string{serviceName: "service.name", "host": "host.name"}

// export makes an OTLP request of a profile, of so many bytes at most.
func export(c *Config, p *Profile, scope string, most int) (*collector.ExportProfilesServiceRequest, limits.Report, error) {
	read, series, report, err := parse(c, p)
	if err != nil {
		return nil, report, err
	}
	resource := map[string]string{}
	for name, value := range series {
		if other, ok := resourceNames[name]; ok {
			name = other
		}
		resource[name] = value
	}
	room := limits.Servers
	for {
		request := otlp.Request(read, otlp.Options{ID: p.ID(), Resource: resource, Scope: scope})
		size := proto.Size(request)
		if size <= most {
			return request, report, nil
		}
		room.Bytes = int(float64(room.Bytes) * min(0.9, float64(most)/float64(size)))
		more, err := room.Apply(read, c.LabelAllow)
		report.Folded += more.Folded
		if err != nil {
			return nil, report, err
		}
	}
}

// otlpHTTP posts to an OTLP receiver.
type otlpHTTP struct{ *client }

func newOTLPHTTP(c Config) (Sink, error) {
	client, err := newClient(c)
	return otlpHTTP{client}, err
}

const otlpPath = "/v1development/profiles"

func (s otlpHTTP) Prepare(p *Profile) (Delivery, limits.Report, error) {
	request, report, err := export(&s.config, p, scopeName, maxMessageBytes)
	if err != nil {
		return nil, report, err
	}
	body, err := proto.Marshal(request)
	if err != nil {
		return nil, report, err
	}
	body = compress(body)
	target := strings.TrimSuffix(s.config.URL, "/")
	if !strings.HasSuffix(target, otlpPath) {
		target += otlpPath
	}
	headers := map[string]string{"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
	return func(ctx context.Context) error {
		answer, err := s.post(ctx, target, body, headers)
		if err != nil {
			return err
		}
		var response collector.ExportProfilesServiceResponse
		if proto.Unmarshal(answer, &response) != nil {
			return nil // 200 all the same
		}
		return s.partial(&response)
	}, report, nil
}

// partial returns what a server has against a part of what it took.
func (a *access) partial(response *collector.ExportProfilesServiceResponse) error {
	if rejected := response.GetPartialSuccess().GetRejectedProfiles(); rejected > 0 {
		said := response.GetPartialSuccess().GetErrorMessage()
		return &Failure{Reason: refusal(said), Final: true, Err: errors.New("refused: " + a.message(said))}
	}
	return nil
}
