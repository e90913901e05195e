package upload

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.yaml.in/yaml/v3"
)

// backend takes profiles over HTTP at an address that stays the same while it
// comes and goes.
type backend struct {
	address  string
	listener net.Listener
	server   *http.Server

	mu     sync.Mutex
	ids    []string // in the order of arrival, with repetitions
	answer func(id string, attempt int) (code int, headers map[string]string)
	repeat bool // refuse all, and say what came in
	tries  map[string]int
	times  map[string][]time.Time
}

func newBackend(t testing.TB) *backend {
	t.Helper()
	b := &backend{address: "127.0.0.1:0", tries: map[string]int{}, times: map[string][]time.Time{}}
	b.up(t)
	t.Cleanup(b.down)
	return b
}

func (b *backend) up(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	b.listener, b.address = listener, listener.Addr().String()
	b.server = &http.Server{Handler: b}
	go b.server.Serve(listener)
}

func (b *backend) down() {
	b.listener.Close()
	b.server.Close()
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, err := io.ReadAll(r.Body); err != nil {
		return
	}
	id := r.Header.Get("Idempotency-Key")
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.repeat {
		user, password, _ := r.BasicAuth()
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprint(w, r.Header, user, password)
		return
	}
	b.tries[id]++
	b.times[id] = append(b.times[id], time.Now())
	if b.answer != nil {
		code, headers := b.answer(id, b.tries[id])
		for name, value := range headers {
			w.Header().Set(name, value)
		}
		if code != 200 {
			w.WriteHeader(code)
			fmt.Fprint(w, headers["says"])
			return
		}
	}
	b.ids = append(b.ids, id)
}

func (b *backend) arrived() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.ids)
}

func (b *backend) config(name string) Config {
	return Config{Name: name, Type: "http", URL: "http://" + b.address + "/", Timeout: 5 * time.Second}
}

// add adds so many profiles and returns their IDs.
func add(t testing.TB, p *Pipeline, count int) []string {
	t.Helper()
	var ids []string
	for i := range count {
		profile := small(t, i)
		if err := p.Add(profile); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, profile.ID().String())
	}
	return ids
}

func sent(n uint64) func([]SinkStats) bool {
	return func(s []SinkStats) bool { return s[0].Sent == n && s[0].QueuedProfiles == 0 }
}

func TestOutage(t *testing.T) {
	lost, well := newBackend(t), newBackend(t)
	lost.down()
	p := start(t, t.TempDir(), lost.config("lost"), well.config("well"))
	ids := add(t, p, 20)
	s := await(t, p, "the other sink is not delayed", func(s []SinkStats) bool { return s[1].Sent == 20 })
	if got := well.arrived(); !slices.Equal(got, ids) {
		t.Errorf("the other got %v", got)
	}
	if s[0].Sent != 0 || s[0].QueuedProfiles != 20 || s[0].QueuedBytes == 0 || s[0].OldestQueued.IsZero() {
		t.Errorf("during the outage: %+v", s[0])
	}
	s = await(t, p, "it is tried again", func(s []SinkStats) bool { return s[0].Retries > 3 })
	if s[0].Failures["network"] == 0 || !strings.Contains(s[0].LastError, "refused") {
		t.Errorf("failures: %+v", s[0])
	}
	lost.up(t)
	s = await(t, p, "the queue drains", sent(20))
	if got := lost.arrived(); !slices.Equal(got, ids) {
		t.Errorf("not in order, or not once: %v, want %v", got, ids)
	}
	if len(s[0].Dropped) > 0 {
		t.Errorf("dropped %v", s[0].Dropped)
	}
}

func TestWhatIsRefusedDoesNotBlock(t *testing.T) {
	cases := []struct {
		code    int
		headers map[string]string
		times   int // that it is answered so; 0 for always
		dropped string
	}{
		{413, nil, 0, "too_large"},
		{422, map[string]string{"says": "outside of ingestion window"}, 0, "too_old"},
		{400, map[string]string{"says": "33 label names; limit 30"}, 0, "too_many_labels"},
		{400, nil, 0, "refused"},
		{500, nil, 0, "server_error"}, // only this one: it is not an outage
		{500, nil, 3, ""},
		{503, nil, 3, ""},
		{401, nil, 3, ""},
		{429, nil, 3, ""},
		{429, map[string]string{"Retry-After": "1"}, 1, ""},
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%d %v %d", c.code, c.headers, c.times), func(t *testing.T) {
			t.Parallel()
			b := newBackend(t)
			p, err := New([]Config{b.config("sink")}, t.TempDir(), zerolog.Nop())
			if err != nil {
				t.Fatal(err)
			}
			ids := add(t, p, 3)
			bad := ids[1]
			b.answer = func(id string, attempt int) (int, map[string]string) {
				if id == bad && (c.times == 0 || attempt <= c.times) {
					return c.code, c.headers
				}
				return 200, nil
			}
			run(t, p)
			want := uint64(3)
			if c.dropped != "" {
				want = 2
				ids = []string{ids[0], ids[2]}
			}
			// It leaves the queue, and then is counted.
			s := await(t, p, "the others are sent", func(s []SinkStats) bool {
				return sent(want)(s) && (c.dropped == "" || len(s[0].Dropped) > 0)
			})
			if got := b.arrived(); !slices.Equal(got, ids) {
				t.Errorf("arrived: %v, want %v", got, ids)
			}
			if c.dropped != "" && s[0].Dropped[c.dropped] != 1 || c.dropped == "" && len(s[0].Dropped) > 0 {
				t.Errorf("dropped %v", s[0].Dropped)
			}
			if c.headers["Retry-After"] != "" {
				if times := b.times[bad]; times[1].Sub(times[0]) < time.Second {
					t.Errorf("tried again after %v", times[1].Sub(times[0]))
				}
			}
		})
	}
}

// TestWholeOutageLosesNothing: however long all fails, nothing is taken for a
// profile that the server cannot bear.
func TestWholeOutageLosesNothing(t *testing.T) {
	b := newBackend(t)
	bad := true
	b.answer = func(string, int) (int, map[string]string) {
		if bad {
			return 500, nil
		}
		return 200, nil
	}
	p := start(t, t.TempDir(), b.config("sink"))
	ids := add(t, p, 5)
	await(t, p, "many attempts fail", func(s []SinkStats) bool { return s[0].Failures["server_error"] > 40 })
	b.mu.Lock()
	bad = false
	b.mu.Unlock()
	s := await(t, p, "the queue drains", sent(5))
	got := b.arrived()
	slices.Sort(got)
	slices.Sort(ids)
	if !slices.Equal(got, ids) || len(s[0].Dropped) > 0 {
		t.Errorf("arrived %v, dropped %v", got, s[0].Dropped)
	}
}

func TestHangingServer(t *testing.T) {
	hangs, well := newBackend(t), newBackend(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	c := hangs.config("hangs")
	c.URL, c.Timeout = "http://"+listener.Addr().String(), 100*time.Millisecond
	p := start(t, t.TempDir(), c, well.config("well"))
	add(t, p, 3)
	await(t, p, "the other is not delayed, and this one times out", func(s []SinkStats) bool {
		return s[1].Sent == 3 && s[0].Failures["timeout"] >= 2
	})
}

func TestQueueBounds(t *testing.T) {
	lost := newBackend(t)
	lost.down()
	c := lost.config("sink")
	c.Queue.MaxBytes, c.Queue.MaxAge = 1<<20, time.Hour
	p := start(t, t.TempDir(), c)
	old := small(t, 0)
	old.End = time.Now().Add(-2 * time.Hour)
	if err := p.Add(old); err != nil {
		t.Fatal(err)
	}
	large := small(t, 1)
	large.Data = bytes.Repeat([]byte{1}, 300<<10) // no profile, but nobody looks yet
	for i := range 5 {
		large.Start = large.Start.Add(time.Duration(i))
		if err := p.Add(large); err != nil {
			t.Fatal(err)
		}
	}
	s := await(t, p, "too old and too many are dropped", func(s []SinkStats) bool {
		return s[0].Dropped["too_old"] == 1 && s[0].Dropped["queue_full"]+s[0].Dropped["invalid"] >= 2
	})
	if s[0].QueuedBytes > 1<<20 {
		t.Errorf("%d bytes in the queue", s[0].QueuedBytes)
	}
}

func TestNotAProfile(t *testing.T) {
	b := newBackend(t)
	p := start(t, t.TempDir(), b.config("sink"))
	bad := small(t, 1)
	bad.Data = []byte("no profile")
	if err := p.Add(bad); err != nil {
		t.Fatal(err)
	}
	add(t, p, 1)
	s := await(t, p, "the other is sent", sent(1))
	if s[0].Dropped["invalid"] != 1 {
		t.Errorf("dropped %v", s[0].Dropped)
	}
}

func TestReload(t *testing.T) {
	first, second := newBackend(t), newBackend(t)
	first.down()
	p := start(t, t.TempDir(), first.config("kept"), second.config("goes"))
	ids := add(t, p, 3)
	await(t, p, "an attempt fails", func(s []SinkStats) bool { return s[0].Failures["network"] > 0 && s[1].Sent == 3 })

	bad := second.config("kept")
	bad.TLS.CAFile, bad.URL = "/no/such/file", "https://127.0.0.1:1"
	for _, configs := range [][]Config{{second.config("new"), bad}, {second.config("twice"), second.config("twice")}, {{Name: "x"}}} {
		if err := p.Reload(configs); err == nil || !strings.Contains(err.Error(), "sinks[") {
			t.Errorf("a configuration that is wrong: %v", err)
		}
	}
	if s := p.Stats(); len(s) != 2 || s[0].Name != "kept" || s[0].QueuedProfiles != 3 || s[1].Name != "goes" {
		t.Fatalf("after that: %+v", s)
	}
	if err := p.Reload([]Config{second.config("new"), second.config("kept")}); err != nil {
		t.Fatal(err)
	}
	s := await(t, p, "what was queued goes to the new place", func(s []SinkStats) bool { return s[1].Sent == 3 })
	if s[1].Failures["network"] == 0 {
		t.Error("the counts are gone")
	}
	if got := second.arrived(); !slices.Equal(got, append(slices.Clone(ids), ids...)) { // as "goes", and as "kept"
		t.Errorf("arrived: %v", got)
	}
	add(t, p, 1)
	await(t, p, "both work", func(s []SinkStats) bool { return s[0].Sent == 1 && s[1].Sent == 4 })
}

func TestRestart(t *testing.T) {
	b := newBackend(t)
	spool := t.TempDir()
	p, err := New([]Config{b.config("sink")}, spool, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ids := add(t, p, 3)
	if _, err := New([]Config{b.config("sink")}, spool, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second pipeline with the same spool: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Add(small(t, 1)); err != ErrClosed {
		t.Errorf("after Close: %v", err)
	}
	p = start(t, spool, b.config("sink"))
	await(t, p, "what was there is sent", sent(3))
	if got := b.arrived(); !slices.Equal(got, ids) {
		t.Errorf("arrived: %v, want %v", got, ids)
	}
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestSecretsStaySecret: whatever prints a configuration, a count, an error or a
// log line, also if the server repeats what it got.
func TestSecretsStaySecret(t *testing.T) {
	const password, header, token, fileToken = "pass-w0rd", "header-s3cret", "t0ken-value", "file-t0ken"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(fileToken), 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBackend(t)
	b.repeat = true
	var out buffer
	log := zerolog.New(&out)
	var configs []Config
	for i, auth := range []Auth{{Username: "me", Password: password}, {Token: token}, {TokenFile: file}} {
		c := b.config(fmt.Sprint("sink", i))
		c.Auth, c.Headers = auth, map[string]Secret{"X-Key": header}
		c.URL += "?key=" + "in-the-url"
		configs = append(configs, c)
	}
	p, err := New(configs, t.TempDir(), log)
	if err != nil {
		t.Fatal(err)
	}
	add(t, p, 1)
	run(t, p)
	s := await(t, p, "all are refused", func(s []SinkStats) bool {
		return s[0].Dropped["refused"] == 1 && s[1].Dropped["refused"] == 1 && s[2].Dropped["refused"] == 1
	})
	b.down()
	add(t, p, 1)
	await(t, p, "an attempt fails", func(s []SinkStats) bool { return s[2].Failures["network"] > 0 && s[0].Failures["network"] > 0 })
	log.Info().Interface("config", configs).Any("auth", configs[0].Auth).Stringer("secret", Secret(password)).Msg("")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb, configs)
		fmt.Fprintf(&out, verb, Secret(password))
	}
	y, err := yaml.Marshal(configs)
	if err != nil {
		t.Fatal(err)
	}
	j, err := json.Marshal(configs)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&out, "%s %s %+v %+v", y, j, s, p.Stats())
	for _, secret := range []string{password, header, token, fileToken, "bWU6cGFzcy13MHJk" /* me:pass-w0rd */, fmt.Sprintf("%x", password)} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%s is in:\n%s", secret, out.String())
		}
	}
	if !strings.Contains(out.String(), "<secret>") {
		t.Error("nothing was printed: this shows nothing")
	}
}

// TestEndOfRun: what can be sent without waiting is sent before Run returns.
func TestEndOfRun(t *testing.T) {
	b := newBackend(t)
	p, err := New([]Config{b.config("sink")}, t.TempDir(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ids := add(t, p, 5)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if got := b.arrived(); !slices.Equal(got, ids) {
		t.Errorf("arrived: %v, want %v", got, ids)
	}
}
