package main

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// mark is part of every secret of these tests.
const mark = "s3cret"

// repeating answers each request with an error that repeats all of it, as some
// servers and proxies do.
func repeating(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusBadRequest)
	fmt.Fprintf(w, "%s %s\n", r.Method, r.URL)
	r.Header.Write(w)
}

// repeatingGRPC does the same over gRPC, and returns its address.
func repeatingGRPC(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		headers, _ := metadata.FromIncomingContext(stream.Context())
		return status.Errorf(codes.InvalidArgument, "%v", headers)
	}))
	t.Cleanup(server.Stop)
	go server.Serve(listener)
	return listener.Addr().String()
}

// TestLiveAgentKeepsSecrets: secrets are wherever a configuration can have them,
// servers and proxies repeat them, and they are in no log line, metric, answer
// or profile, nor in what config print and errors say.
func TestLiveAgentKeepsSecrets(t *testing.T) {
	vm := busyVM(t)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	backEnd := httptest.NewServer(http.HandlerFunc(repeating)) // and a proxy
	defer backEnd.Close()
	at := strings.TrimPrefix(backEnd.URL, "http://")

	authority := testsupport.NewPKI(t)
	pair := authority.Server(t, "server")
	key, err := os.ReadFile(pair.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(mark+"-scraper"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	web := file("web.yaml", fmt.Sprintf("tls_server_config:\n  cert_file: %s\n  key: |\n    %s\nbasic_auth_users: {scraper: '%s'}\n",
		pair.CertFile, strings.ReplaceAll(strings.TrimSpace(string(key)), "\n", "\n    "), hash))
	tokens := file("token", mark+"-file\n")
	address := freeAddress(t)

	basic, bearer := "auth: {username: me, password: '${BP_PASSWORD}'}, headers: {X-Key: "+mark+"-header}", "auth: {token: "+mark+"-token}, headers: {X-Key: "+mark+"-header}"
	sinks := []string{
		"name: basic, type: http, url: 'http://" + at + "/?key=" + mark + "-query', " + basic,
		"name: bearer, type: pyroscope, url: 'http://" + at + "', " + bearer,
		"name: file, type: pyroscope_push, url: 'http://" + at + "', auth: {token_file: " + tokens + "}",
		"name: otlp, type: otlp_http, url: 'http://" + at + "', " + basic,
		"name: grpc, type: otlp_grpc, url: 'http://" + repeatingGRPC(t) + "', " + basic,
		"name: parca, type: parca, url: 'http://" + repeatingGRPC(t) + "', " + bearer,
		"name: proxied, type: http, url: 'http://backend.invalid/?key=" + mark + "-query', " + bearer,
		"name: proxied-tls, type: http, url: 'https://backend.invalid/?key=" + mark + "-query', " + bearer,
		"name: proxied-grpc, type: otlp_grpc, url: 'http://backend.invalid:4317', " + bearer,
		"name: down, type: http, url: 'http://127.0.0.1:1/?key=" + mark + "-query', " + bearer,
	}
	text := fmt.Sprintf("sampling: {window: 1s, profile: 1s}\ntargets: {interval: 1s, commands: ['.*%s .*']}\nspool: %s/spool\nhttp: {listen: '%s', web_config: %s}\n"+
		"sinks:\n- {name: local, type: directory, directory: {path: %s/profiles}}\n- {%s}\n", vm.Dir, dir, address, web, dir, strings.Join(sinks, "}\n- {"))
	config := file("agent.yaml", text)
	environment := append(os.Environ(), "BP_PASSWORD="+mark+"-env", "NO_PROXY=", "HTTP_PROXY=http://me:"+mark+"-proxy@"+at, "HTTPS_PROXY=http://me:"+mark+"-proxy@"+at)

	var shown bytes.Buffer // all that anybody gets to see
	run := func(want int, args ...string) {
		t.Helper()
		cmd := exec.Command(binary, args...)
		cmd.Env = environment
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Errorf("%v: exit code %d\n%s", args, code, out)
		}
		shown.Write(out)
	}
	run(exitOK, "config", "print", "--config", config)
	run(exitOK, "agent", "--check", "--config", config)
	for i, wrong := range []string{
		"sinks: [{name: a, type: http, url: 'http://me:" + mark + "@host'}]",
		"sinks: [{name: a, type: http, url: '" + mark + "\x7f://'}]",
		"sinks: [{name: a, type: http, url: 'http://host', auth: " + mark + "}]",
		"sinks: [{name: a, type: http, url: 'http://host', headers: " + mark + "}]",
		"sinks: [{name: a, type: http, url: 'http://host', auth: {password: *" + mark + "}}]",
		"sinks: [{name: a, type: http, url: 'http://host', auth: {token: \"" + mark + "\\n\"}}]",
		"sinks: [{name: a, type: http, url: 'http://host', timeout: '${BP_PASSWORD}'}]",
		"http: {max_scrapes: '${BP_PASSWORD}'}",
		"sinks: '${BP_PASSWORD}'",
		"http: {web_config: " + file("web-clear.yaml", "basic_auth_users: {me: "+mark+"}\n") + "}",
		"http: {web_config: " + file("web-type.yaml", "basic_auth_users: "+mark+"\n") + "}",
	} {
		run(exitUsage, "agent", "--check", "--config", file(fmt.Sprintf("wrong%d.yaml", i), wrong+"\n"))
	}

	agent := exec.Command(binary, "agent", "--config", config, "--log-level", "debug")
	agent.Env = environment
	agent.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log logBuffer
	agent.Stderr = &log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer agent.Wait()
	defer agent.Process.Kill()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool}}}
	get := func(path string) string {
		request, _ := http.NewRequest(http.MethodGet, "https://"+address+path, nil)
		request.SetBasicAuth("scraper", mark+"-scraper")
		answer, err := client.Do(request)
		if err != nil {
			return ""
		}
		defer answer.Body.Close()
		body, _ := io.ReadAll(answer.Body)
		shown.Write(body)
		return string(body)
	}
	awaited(t, "a failure of each sink", &log, func() bool {
		metrics := get("/metrics")
		return !slices.ContainsFunc(sinks, func(sink string) bool {
			name, _, _ := strings.Cut(strings.TrimPrefix(sink, "name: "), ",")
			return !strings.Contains(metrics, `,sink="`+name+`",`) || !strings.Contains(metrics, `beamprof_sink_failures_total{reason="`) ||
				!strings.Contains(failuresOf(metrics), `sink="`+name+`"`)
		})
	})
	for _, path := range []string{"/", "/healthz", "/readyz", "/nothing", "/debug/pprof/profile?seconds=1&node=nobody"} {
		get(path)
	}
	file("agent.yaml", strings.Replace(text, "auth: {token_file: "+tokens+"}", "auth: "+mark, 1))
	agent.Process.Signal(syscall.SIGHUP)
	awaited(t, "a configuration that is not taken", &log, func() bool {
		return strings.Contains(log.String(), "was not taken: all goes on") || strings.Contains(log.String(), "cannot unmarshal")
	})
	agent.Process.Signal(syscall.SIGTERM)
	agent.Wait()
	shown.WriteString(log.String())
	gatherFiles(t, &shown, filepath.Join(dir, "profiles"), filepath.Join(dir, "spool"))

	keyLine := strings.Split(string(key), "\n")[1]
	for _, secret := range []string{
		mark, string(hash), keyLine, base64.StdEncoding.EncodeToString([]byte("me:" + mark))[:8],
	} {
		if at := strings.Index(shown.String(), secret); at >= 0 {
			t.Errorf("%s is shown: %q", secret, shown.String()[max(0, at-200):min(shown.Len(), at+100)])
		}
	}
	for _, there := range []string{"<secret>", "was not taken", "beamprof_sink_failures_total", "wrong2.yaml", "spinner"} {
		if !strings.Contains(shown.String(), there) {
			t.Errorf("nothing of %q was looked at: this shows nothing", there)
		}
	}
}

// failuresOf returns the lines of the metrics that count failures.
func failuresOf(metrics string) string {
	var lines strings.Builder
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "beamprof_sink_failures_total{") {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

// gatherFiles adds what is in all files of directories, unpacked where packed.
func gatherFiles(t *testing.T, to *bytes.Buffer, directories ...string) {
	t.Helper()
	for _, directory := range directories {
		err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			to.Write(content)
			if at := bytes.Index(content, []byte{0x1f, 0x8b}); at >= 0 {
				if packed, err := gzip.NewReader(bytes.NewReader(content[at:])); err == nil {
					io.Copy(to, packed)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// logBuffer is what a program wrote so far.
type logBuffer struct {
	mutex sync.Mutex
	text  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.String()
}

// awaited waits until something holds, at most a minute.
func awaited(t *testing.T, what string, log *logBuffer, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("not seen: %s\n%s", what, log)
}

// freeAddress returns an address on loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
