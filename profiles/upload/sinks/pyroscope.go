package sinks

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/beamprof/beamprof/profiles/upload/limits"
)

// ingest posts to Pyroscope's /ingest. The protocol has no ID: a profile that
// is sent again because the answer got lost is there twice.
type ingest struct{ *client }

func newIngest(c Config) (Sink, error) {
	client, err := newClient(c)
	return ingest{client}, err
}

func (s ingest) Prepare(p *Profile) (Delivery, limits.Report, error) {
	read, series, report, err := parse(&s.config, p)
	if err != nil {
		return nil, report, err
	}
	body, err := packed(read)
	query := url.Values{
		"name": {ingestName(series)}, "format": {"pprof"}, "spyName": {"beamprof"},
		"from": {fmt.Sprint(p.Start.UnixNano())}, "until": {fmt.Sprint(p.End.UnixNano())},
	}
	target := strings.TrimSuffix(s.config.URL, "/") + "/ingest?" + query.Encode()
	return func(ctx context.Context) error {
		_, err := s.post(ctx, target, body, map[string]string{"Content-Type": "application/octet-stream"})
		return err
	}, report, err
}

// ingestName writes a series as NAME{LABEL=VALUE,...}. Nothing can be quoted:
// what would end a value is replaced, as are characters that names must not
// have. (grafana/pyroscope, api/model/labelset.)
func ingestName(series map[string]string) string {
	var b strings.Builder
	b.WriteString(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_.-/", r) {
			return r
		}
		return '_'
	}, series[serviceName]))
	separator := byte('{')
	for _, name := range slices.Sorted(maps.Keys(series)) {
		if name == serviceName {
			continue
		}
		b.WriteByte(separator)
		separator = ','
		b.WriteString(name)
		b.WriteByte('=')
		b.WriteString(strings.NewReplacer(",", "_", "}", "_").Replace(series[name]))
	}
	if separator == ',' {
		b.WriteByte('}')
	}
	return b.String()
}

// push calls Pyroscope's push.v1.PusherService/Push: a unary call of the
// connect protocol, which is a POST whose status says what the error is.
type push struct{ *client }

func newPush(c Config) (Sink, error) {
	client, err := newClient(c)
	return push{client}, err
}

func (s push) Prepare(p *Profile) (Delivery, limits.Report, error) {
	read, series, report, err := parse(&s.config, p)
	if err != nil {
		return nil, report, err
	}
	raw, err := packed(read)
	series["__name__"] = profileName(p.Kind)
	body := pushRequest(series, raw, p.ID())
	target := strings.TrimSuffix(s.config.URL, "/") + "/push.v1.PusherService/Push"
	headers := map[string]string{"Content-Type": "application/proto", "Connect-Protocol-Version": "1"}
	return func(ctx context.Context) error {
		_, err := s.post(ctx, target, body, headers)
		return err
	}, report, err
}

// profileName is what back ends call a kind of profile.
func profileName(kind string) string {
	if kind == KindCPU {
		return "process_cpu"
	}
	return plainName(kind)
}

// pushRequest encodes a push.v1.PushRequest (grafana/pyroscope,
// api/push/v1/push.proto): series of labels and samples. The generated package
// would add 4 MB to the binary, for OpenAPI.
func pushRequest(labels map[string]string, raw []byte, id ID) []byte {
	field := func(b []byte, number protowire.Number, value []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), value)
	}
	var series []byte
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		series = field(series, 1, field(field(nil, 1, []byte(name)), 2, []byte(labels[name])))
	}
	series = field(series, 2, field(field(nil, 1, raw), 2, []byte(id.String())))
	return field(nil, 1, series)
}
