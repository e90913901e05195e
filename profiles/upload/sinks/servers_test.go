package sinks

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/pprof/profile"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	"github.com/grafana/pyroscope/api/model/labelset"
	collector "go.opentelemetry.io/proto/otlp/collector/profiles/v1development"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// received is what a server got of a profile.
type received struct {
	id      string
	labels  map[string]string
	profile *profile.Profile
	otlp    *collector.ExportProfilesServiceRequest
	headers http.Header
}

// server speaks one of the protocols. answer may refuse what it gets.
type server struct {
	url    string
	kind   string
	answer func(w http.ResponseWriter) bool // of HTTP; false if it has answered

	mu  sync.Mutex
	got []received
}

func (s *server) take(r received) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, r)
}

func (s *server) all() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got
}

// newServer starts the server of a type of sink on loopback, with TLS if there
// is a listener for it.
func newServer(t testing.TB, kind string, secure *pki) *server {
	t.Helper()
	s := &server{kind: kind}
	if kind == TypeOTLPGRPC || kind == TypeParca {
		s.serveGRPC(t, secure)
		return s
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /ingest", s.ingest)
	mux.HandleFunc("POST /v1development/profiles", s.otlpHTTP)
	mux.HandleFunc("POST /any/path", s.post)
	mux.Handle(pushv1connect.NewPusherServiceHandler(pushService{s}))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.answer == nil || s.answer(w) {
			mux.ServeHTTP(w, r)
		}
	})
	h := httptest.NewUnstartedServer(handler)
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	if secure != nil {
		h.TLS = secure.server
		h.StartTLS()
	} else {
		h.Start()
	}
	t.Cleanup(h.Close)
	s.url = h.URL
	return s
}

// config is that of a sink which sends to the server.
func (s *server) config() Config {
	c := Config{Name: "test", Type: s.kind, URL: s.url, Timeout: 10 * time.Second}
	if s.kind == TypeHTTP {
		c.URL += "/any/path"
	}
	return c
}

func parseBody(w http.ResponseWriter, r *http.Request) (*profile.Profile, bool) {
	p, err := profile.Parse(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
	return p, err == nil
}

func (s *server) post(w http.ResponseWriter, r *http.Request) {
	if p, ok := parseBody(w, r); ok {
		s.take(received{id: r.Header.Get("Idempotency-Key"), profile: p, headers: r.Header})
	}
}

// ingest reads the name as Pyroscope does.
func (s *server) ingest(w http.ResponseWriter, r *http.Request) {
	set, err := labelset.Parse(r.URL.Query().Get("name"))
	if err == nil {
		err = labelset.ValidateLabelSet(set)
	}
	if err != nil || r.URL.Query().Get("format") != "pprof" {
		http.Error(w, "name or format", http.StatusBadRequest)
		return
	}
	if p, ok := parseBody(w, r); ok {
		s.take(received{labels: set.Labels(), profile: p, headers: r.Header})
	}
}

type pushService struct{ *server }

func (s pushService) Push(_ context.Context, r *connect.Request[pushv1.PushRequest]) (*connect.Response[pushv1.PushResponse], error) {
	for _, series := range r.Msg.Series {
		labels := map[string]string{}
		for _, l := range series.Labels {
			labels[l.Name] = l.Value
		}
		for _, sample := range series.Samples {
			p, err := profile.ParseData(sample.RawProfile)
			if err != nil {
				return nil, connect.NewError(connect.CodeInvalidArgument, err)
			}
			s.take(received{id: sample.ID, labels: labels, profile: p, headers: r.Header()})
		}
	}
	return connect.NewResponse(&pushv1.PushResponse{}), nil
}

func (s *server) otlpHTTP(w http.ResponseWriter, r *http.Request) {
	unpacked, err := gzip.NewReader(r.Body)
	if err != nil || r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, "not a packed protobuf", http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(unpacked)
	request := &collector.ExportProfilesServiceRequest{}
	if err == nil {
		err = proto.Unmarshal(body, request)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.takeOTLP(request, r.Header)
	answer, _ := proto.Marshal(&collector.ExportProfilesServiceResponse{PartialSuccess: rejection(request)})
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Write(answer)
}

func (s *server) takeOTLP(request *collector.ExportProfilesServiceRequest, headers http.Header) {
	labels := map[string]string{}
	for _, a := range request.ResourceProfiles[0].Resource.Attributes {
		labels[a.Key] = a.Value.GetStringValue()
	}
	first := request.ResourceProfiles[0].ScopeProfiles[0]
	labels["scope"] = first.Scope.Name
	s.take(received{id: ID(first.Profiles[0].ProfileId).String(), labels: labels, otlp: request, headers: headers})
}

// rejection refuses profiles of a target that is named so.
func rejection(request *collector.ExportProfilesServiceRequest) *collector.ExportProfilesPartialSuccess {
	for _, a := range request.ResourceProfiles[0].Resource.Attributes {
		if a.Value.GetStringValue() == "rejected" {
			return &collector.ExportProfilesPartialSuccess{RejectedProfiles: 1, ErrorMessage: "too old"}
		}
	}
	return nil
}

type grpcService struct {
	collector.UnimplementedProfilesServiceServer
	*server
}

func (s grpcService) Export(ctx context.Context, request *collector.ExportProfilesServiceRequest) (*collector.ExportProfilesServiceResponse, error) {
	headers := http.Header{}
	md, _ := metadata.FromIncomingContext(ctx)
	for name, values := range md {
		for _, v := range values {
			headers.Add(name, v)
		}
	}
	if s.answer != nil {
		w := httptest.NewRecorder()
		if !s.answer(w) {
			return nil, statusOf(w)
		}
	}
	s.takeOTLP(request, headers)
	return &collector.ExportProfilesServiceResponse{PartialSuccess: rejection(request)}, nil
}

func (s *server) serveGRPC(t testing.TB, secure *pki) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var options []grpc.ServerOption
	scheme := "http://"
	if secure != nil {
		options, scheme = append(options, grpc.Creds(credentials.NewTLS(secure.server))), "https://"
	}
	g := grpc.NewServer(options...)
	collector.RegisterProfilesServiceServer(g, grpcService{server: s})
	go g.Serve(listener)
	t.Cleanup(g.Stop)
	s.url = scheme + listener.Addr().String()
}

// sample is a small profile of two samples.
func sample(t testing.TB) *Profile {
	t.Helper()
	function := &profile.Function{ID: 1, Name: "lists:map/2"}
	location := &profile.Location{ID: 1, Address: 1, Line: []profile.Line{{Function: function, Line: 7}}}
	p := &profile.Profile{
		SampleType:        []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		DefaultSampleType: "cpu",
		PeriodType:        &profile.ValueType{Type: "cpu", Unit: "nanoseconds"},
		Period:            10_000_000,
		TimeNanos:         time.Now().UnixNano(),
		DurationNanos:     15_000_000_000,
		Location:          []*profile.Location{location},
		Function:          []*profile.Function{function},
	}
	for i, workload := range []string{"ae_exchange", "client_churn"} {
		p.Sample = append(p.Sample, &profile.Sample{
			Location: []*profile.Location{location}, Value: []int64{1, 10_000_000},
			Label:    map[string][]string{"workload": {workload}, "pid": {"<0.1.0>"}},
			NumLabel: map[string][]int64{"scheduler": {int64(i + 1)}},
		})
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	return &Profile{
		Kind: KindCPU, Labels: map[string]string{"service_name": "vernemq", "node": "VerneMQ1@127.0.0.1"},
		Start: time.Now().Add(-15 * time.Second), End: time.Now(), Data: b.Bytes(),
	}
}

// prepare makes a sink that is closed with the test, and what it sends.
func prepare(t testing.TB, c Config, p *Profile) Delivery {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	s, err := New(c.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	deliver, _, err := s.Prepare(p)
	if err != nil {
		t.Fatal(err)
	}
	return deliver
}

var remote = []string{TypePyroscope, TypePyroscopePush, TypeOTLPGRPC, TypeOTLPHTTP, TypeParca, TypeHTTP}

func bearer(token string) string { return strings.TrimSpace("Bearer " + token) }
