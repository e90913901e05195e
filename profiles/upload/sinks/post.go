package sinks

import (
	"context"

	"github.com/beamprof/beamprof/profiles/upload/limits"
)

// poster posts the pprof file to any server. All labels are labels of the
// samples. The header Idempotency-Key is the profile's ID.
type poster struct{ *client }

func newPoster(c Config) (Sink, error) {
	client, err := newClient(c)
	return poster{client}, err
}

func (s poster) Prepare(p *Profile) (Delivery, limits.Report, error) {
	read, series, report, err := parse(&s.config, p)
	if err != nil {
		return nil, report, err
	}
	withLabels(read, series)
	body, err := packed(read)
	headers := map[string]string{"Content-Type": "application/octet-stream", "Idempotency-Key": p.ID().String()}
	return func(ctx context.Context) error {
		_, err := s.post(ctx, s.config.URL, body, headers)
		return err
	}, report, err
}
