package distribution

import (
	"fmt"
	"time"

	"github.com/cilium/ebpf/perf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/beamprof/beamprof/bpf"
)

// Sizes of the output buffer of each CPU, in bytes: all of it, and how much is
// read at once.
const (
	buffer    = 2 << 20
	watermark = buffer / 16
)

// output is where the kernel side's records come out.
type output interface {
	// next returns a record, which is valid until the next call, or how many found
	// no room before those that come next. At the time it fails with
	// os.ErrDeadlineExceeded, when all that was there has been read.
	next(until time.Time) (record []byte, lost uint64, err error)
	Close() error
}

func openOutput(programs *bpf.DistributionPrograms) (output, error) {
	var o output
	var err error
	if programs.Ring {
		o, err = newRingOutput(programs)
	} else {
		o, err = newPerfOutput(programs)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the output buffers of the distribution's probes: %w", err)
	}
	return o, nil
}

// perfOutput is a buffer for each CPU.
type perfOutput struct {
	*perf.Reader
	record perf.Record
}

func newPerfOutput(programs *bpf.DistributionPrograms) (*perfOutput, error) {
	reader, err := perf.NewReaderWithOptions(programs.Events, buffer, perf.ReaderOptions{Watermark: watermark})
	return &perfOutput{Reader: reader}, err
}

func (o *perfOutput) next(until time.Time) ([]byte, uint64, error) {
	o.SetDeadline(until)
	for {
		if err := o.ReadInto(&o.record); !perf.IsUnknownEvent(err) {
			return o.record.RawSample, o.record.LostSamples, err
		}
	}
}

// ringOutput is one buffer for all CPUs. What finds no room in it is counted by
// the kernel side alone.
type ringOutput struct {
	*ringbuf.Reader
	record ringbuf.Record
}

func newRingOutput(programs *bpf.DistributionPrograms) (*ringOutput, error) {
	reader, err := ringbuf.NewReader(programs.Events)
	return &ringOutput{Reader: reader}, err
}

func (o *ringOutput) next(until time.Time) ([]byte, uint64, error) {
	o.SetDeadline(until)
	err := o.ReadInto(&o.record)
	return o.record.RawSample, 0, err
}
