package sinks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// TestWhatServersGet: every protocol's own server reads what is sent.
func TestWhatServersGet(t *testing.T) {
	for _, kind := range remote {
		t.Run(kind, func(t *testing.T) {
			s := newServer(t, kind, nil)
			c := s.config()
			c.Labels = map[string]string{"region": "eu, west}", "node": "renamed"}
			c.Tenant, c.Headers = "team-a", map[string]Secret{"X-Extra": "yes"}
			c.Auth = Auth{Username: "me", Password: "pass:word"}
			p := sample(t)
			p.Labels["host.ip"] = "10.0.0.1"
			if err := prepare(t, c, p)(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(s.all()) != 1 {
				t.Fatalf("%d profiles arrived", len(s.all()))
			}
			got := s.all()[0]
			if kind != TypePyroscope && got.id != p.ID().String() {
				t.Errorf("the ID is %s, not %s", got.id, p.ID())
			}
			request := http.Request{Header: got.headers}
			if user, password, ok := request.BasicAuth(); !ok || user != "me" || password != "pass:word" {
				t.Errorf("basic auth is %q, %q", user, password)
			}
			if got.headers.Get("X-Scope-OrgID") != "team-a" || got.headers.Get("X-Extra") != "yes" {
				t.Errorf("headers are %v", got.headers)
			}
			checkLabels(t, kind, got)
			checkSamples(t, kind, got)
		})
	}
}

func checkLabels(t *testing.T, kind string, got received) {
	t.Helper()
	want := map[string]string{"service_name": "vernemq", "node": "renamed", "region": "eu, west}", "host_ip": "10.0.0.1"}
	switch kind {
	case TypePyroscope:
		delete(want, "service_name")
		want["__name__"], want["region"] = "vernemq", "eu_ west_"
	case TypePyroscopePush:
		want["__name__"] = "process_cpu"
	case TypeOTLPGRPC, TypeOTLPHTTP, TypeParca:
		delete(want, "service_name")
		want["service.name"], want["scope"] = "vernemq", "github.com/beamprof/beamprof"
		if kind == TypeParca {
			want["scope"] = "process_cpu"
		}
	case TypeHTTP:
		got.labels = map[string]string{}
		for name, values := range got.profile.Sample[0].Label {
			if name != "workload" {
				got.labels[name] = values[0]
			}
		}
	}
	if fmt.Sprint(got.labels) != fmt.Sprint(want) {
		t.Errorf("labels are %v, not %v", got.labels, want)
	}
}

func checkSamples(t *testing.T, kind string, got received) {
	t.Helper()
	var text string
	if got.otlp != nil {
		text = got.otlp.String()
		if n := len(got.otlp.ResourceProfiles[0].ScopeProfiles[0].Profiles); n != 1 {
			t.Errorf("%d profiles in the request", n)
		}
	} else {
		text = got.profile.String()
		if len(got.profile.Sample) != 2 {
			t.Errorf("%d samples", len(got.profile.Sample))
		}
	}
	for _, want := range []string{"ae_exchange", "client_churn", "lists:map/2", "scheduler"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if strings.Contains(text, "<0.1.0>") {
		t.Errorf("%s: the pid was sent: %s", kind, text)
	}
}

// statusOf is the status of gRPC for what an HTTP server would answer.
func statusOf(w *httptest.ResponseRecorder) error {
	code := map[int]codes.Code{
		401: codes.Unauthenticated, 413: codes.ResourceExhausted, 429: codes.ResourceExhausted,
		500: codes.Internal, 503: codes.Unavailable, 404: codes.Unimplemented, 422: codes.InvalidArgument, 400: codes.InvalidArgument,
	}[w.Code]
	st := status.New(code, w.Body.String())
	if after := w.Header().Get("Retry-After"); after != "" {
		st, _ = st.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(7 * time.Second)})
	}
	return st.Err()
}

func TestWhatServersRefuse(t *testing.T) {
	const token = "very-secret-token"
	cases := []struct {
		code   int
		body   string
		reason string
		final  bool
		after  time.Duration
	}{
		{401, "bad token " + token, ReasonUnauthorized, false, 0},
		{404, "", ReasonEndpoint, false, 0},
		{413, "received message larger than max (5 vs. 4)", ReasonTooLarge, true, 0},
		{429, "slow down", ReasonRateLimited, false, 7 * time.Second},
		{500, strings.Repeat("long ", 1000), ReasonServer, false, 0},
		{503, "", "", false, 7 * time.Second},
		{422, "profile is outside of ingestion window", ReasonTooOld, true, 0},
		{400, "profile series '{}' has 33 label names; limit 30", ReasonLabels, true, 0},
		{400, "exceeds the samples count limit (max_profile_stacktrace_samples)", ReasonTooLarge, true, 0},
		{400, "\x1b[31mmalformed\xff", ReasonRefused, true, 0},
	}
	for _, kind := range remote {
		s := newServer(t, kind, nil)
		c := s.config()
		c.Auth.Token = token
		deliver := prepare(t, c, sample(t))
		for _, want := range cases {
			s.answer = func(w http.ResponseWriter) bool {
				if want.after > 0 {
					w.Header().Set("Retry-After", "7")
				}
				w.WriteHeader(want.code)
				fmt.Fprint(w, want.body)
				return false
			}
			var f *Failure
			if err := deliver(t.Context()); !errors.As(err, &f) {
				t.Fatalf("%s: %d: %v", kind, want.code, err)
			}
			if want.reason != "" && f.Reason != want.reason || f.Final != want.final || f.After != want.after {
				t.Errorf("%s: %d is %+v", kind, want.code, f)
			}
			if m := f.Error(); strings.Contains(m, token) || len(m) > 400 || strings.Contains(m, "\x1b") || !utf8.ValidString(m) {
				t.Errorf("%s: %d: message %q", kind, want.code, m)
			}
		}
		if kind == TypeOTLPGRPC || kind == TypeOTLPHTTP {
			s.answer = nil
			p := sample(t)
			p.Labels["node"] = "rejected"
			var f *Failure
			if err := prepare(t, c, p)(t.Context()); !errors.As(err, &f) || !f.Final || f.Reason != ReasonTooOld {
				t.Errorf("%s: a partial success that rejects it: %v", kind, err)
			}
		}
	}
}

func TestTokenFileIsReadAgain(t *testing.T) {
	for _, kind := range remote {
		s := newServer(t, kind, nil)
		c := s.config()
		c.Auth.TokenFile = filepath.Join(t.TempDir(), "token")
		deliver := prepare(t, c, sample(t))
		var f *Failure
		if err := deliver(t.Context()); !errors.As(err, &f) || f.Reason != ReasonLocal || f.Final {
			t.Errorf("%s: without the file: %v", kind, err)
		}
		for _, token := range []string{"first", "second"} {
			if err := os.WriteFile(c.Auth.TokenFile, []byte(token+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := deliver(t.Context()); err != nil {
				t.Fatal(kind, err)
			}
			got := s.all()
			if header := got[len(got)-1].headers.Get("Authorization"); header != bearer(token) {
				t.Errorf("%s: %q, not %q", kind, header, token)
			}
		}
	}
}

func TestTLS(t *testing.T) {
	ours, theirs := newPKI(t), newPKI(t)
	for _, kind := range remote {
		s := newServer(t, kind, ours)
		good := TLS{CAFile: ours.ca, CertFile: ours.cert, KeyFile: ours.keyPEM, ServerName: "profiles.example"}
		cases := []struct {
			what   string
			change func(*TLS)
			works  bool
		}{
			{"all is right", func(*TLS) {}, true},
			{"the address is in the certificate", func(t *TLS) { t.ServerName = "" }, true},
			{"another name", func(t *TLS) { t.ServerName = "other.example" }, false},
			{"another authority", func(t *TLS) { t.CAFile = theirs.ca }, false},
			{"the system's authorities", func(t *TLS) { t.CAFile = "" }, false},
			{"not verified", func(t *TLS) { t.CAFile, t.InsecureSkipVerify = "", true }, true},
			{"no client certificate", func(t *TLS) { t.CertFile, t.KeyFile = "", "" }, false},
			{"another client certificate", func(t *TLS) { t.CertFile, t.KeyFile = theirs.cert, theirs.keyPEM }, false},
		}
		for _, want := range cases {
			c := s.config()
			c.TLS = good
			want.change(&c.TLS)
			c.Auth.Token = "very-secret-token"
			before := len(s.all())
			err := prepare(t, c, sample(t))(t.Context())
			var f *Failure
			if (err == nil) != want.works || err != nil && (!errors.As(err, &f) || f.Final) {
				t.Errorf("%s, %s: %v", kind, want.what, err)
			}
			if arrived := len(s.all()) > before; arrived != want.works {
				t.Errorf("%s, %s: arrived: %v", kind, want.what, arrived)
			}
		}
	}
	if _, err := New(Config{Type: TypeHTTP, URL: "https://x", TLS: TLS{CAFile: "/no/such"}}); err == nil || !strings.Contains(err.Error(), "tls.ca_file") {
		t.Errorf("a file that is missing: %v", err)
	}
}

func TestProxyFromTheEnvironment(t *testing.T) {
	s, err := New(Config{Type: TypeHTTP, URL: "http://profiles.example/"})
	if err != nil {
		t.Fatal(err)
	}
	if s.(poster).http.Transport.(*http.Transport).Proxy == nil {
		t.Error("proxies from the environment are not used")
	}
}

func TestHangingServer(t *testing.T) {
	for _, kind := range remote {
		s := newServer(t, kind, nil)
		release := make(chan struct{})
		s.answer = func(http.ResponseWriter) bool { <-release; return true }
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		var f *Failure
		if err := prepare(t, s.config(), sample(t))(ctx); !errors.As(err, &f) || f.Reason != ReasonTimeout || f.Final {
			t.Errorf("%s: %v", kind, err)
		}
		cancel()
		close(release)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	other := newServer(t, TypeHTTP, nil)
	s := newServer(t, TypeHTTP, nil)
	s.answer = func(w http.ResponseWriter) bool {
		w.Header().Set("Location", other.url+"/any/path")
		w.WriteHeader(http.StatusTemporaryRedirect)
		return false
	}
	var f *Failure
	if err := prepare(t, s.config(), sample(t))(t.Context()); !errors.As(err, &f) || f.Reason != ReasonEndpoint || len(other.all()) > 0 {
		t.Errorf("%v; the other server got %d", err, len(other.all()))
	}
}
