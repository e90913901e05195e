package agent

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// nobody fits no VM.
const nobody = "agent_test_nobody"

// webFile writes a file for http.web_config.
func webFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "web.yaml")
	rewrite(t, path, lines...)
	return path
}

func rewrite(t *testing.T, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func hashed(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

// visitor asks the agent over TLS, each time on a new connection.
type visitor struct {
	pool           *x509.CertPool
	certificate    *tls.Certificate
	user, password string
}

// visit returns the status, and the certificate that the agent showed.
func (v visitor) visit(r *running, path string) (int, *x509.Certificate, error) {
	config := &tls.Config{RootCAs: v.pool}
	if v.certificate != nil {
		config.Certificates = []tls.Certificate{*v.certificate}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	request, err := http.NewRequest(http.MethodGet, "https://"+r.address+path, nil)
	if err != nil {
		return 0, nil, err
	}
	if v.user != "" {
		request.SetBasicAuth(v.user, v.password)
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, answer.TLS.PeerCertificates[0], err
}

// TestTLSAndUsers: nobody is answered in the clear or without a password, and
// certificates and passwords that were changed hold for the next connection.
func TestTLSAndUsers(t *testing.T) {
	testsupport.RequireBPF(t)
	authority, other := testsupport.NewPKI(t), testsupport.NewPKI(t)
	first := authority.Server(t, "server")
	server := fmt.Sprintf("tls_server_config: {cert_file: %s, key_file: %s}", first.CertFile, first.KeyFile)
	path := webFile(t, server, "basic_auth_users: {scraper: "+hashed(t, "right")+"}")
	r := startHTTP(t, nobody, ", web_config: "+path, "")
	scraper := visitor{pool: authority.Pool, user: "scraper", password: "right"}
	for _, c := range []struct {
		what    string
		visitor visitor
		want    int // 0: no connection
	}{
		{"the right password", scraper, 200},
		{"a wrong password", visitor{authority.Pool, nil, "scraper", "wrong"}, 401},
		{"a hash for a password", visitor{authority.Pool, nil, "scraper", hashed(t, "right")}, 401},
		{"a user that there is not", visitor{authority.Pool, nil, "somebody", "right"}, 401},
		{"no user", visitor{pool: authority.Pool}, 401},
		{"a client that trusts another authority", visitor{other.Pool, nil, "scraper", "right"}, 0},
	} {
		for _, path := range []string{"/metrics", "/healthz", "/debug/pprof/profile?seconds=1"} {
			want := c.want
			if want == 200 && strings.HasPrefix(path, "/debug") {
				want = 404 // no VM is profiled
			}
			if code, _, err := c.visitor.visit(r, path); code != want || (err == nil) != (want != 0) {
				t.Errorf("%s, %s: status %d, %v", c.what, path, code, err)
			}
		}
	}
	if code, body := r.get(t, "/metrics"); code != http.StatusBadRequest || strings.Contains(body, "beamprof_") {
		t.Errorf("in the clear: status %d, %.100s", code, body)
	}
	if log := r.log.String(); !strings.Contains(log, "listening on https://"+r.address) || !strings.Contains(log, "TLS handshake error") {
		t.Errorf("the log says\n%s", log)
	}

	// Others are taken without a reload.
	_, shown, err := scraper.visit(r, "/healthz")
	if err != nil || !shown.Equal(first.Leaf) {
		t.Fatalf("another certificate is shown: %v", err)
	}
	second := authority.Server(t, "server")
	rewrite(t, path, server, "basic_auth_users: {scraper: "+hashed(t, "changed")+"}")
	if code, shown, err := scraper.visit(r, "/healthz"); code != 401 || !shown.Equal(second.Leaf) {
		t.Errorf("with the old password: status %d, %v", code, err)
	}
	scraper.password = "changed"
	if code, _, err := scraper.visit(r, "/healthz"); code != 200 {
		t.Errorf("with the new password: status %d, %v", code, err)
	}

	// A file that is wrong lets nobody in, is not taken at a reload, and the log says why.
	rewrite(t, path, server, "basic_auth_users: {scraper: in the clear}")
	r.agent.reloadFrom(r.path)
	if code, _, err := scraper.visit(r, "/healthz"); code != 401 {
		t.Errorf("with a password that is not hashed: status %d, %v", code, err)
	}
	if log := r.log.String(); !strings.Contains(log, `the password of \"scraper\" in basic_auth_users is no bcrypt hash`) || strings.Contains(log, "in the clear") {
		t.Errorf("the log says\n%s", log)
	}
}

// TestClientCertificates: with client_auth_type only those who have one of the
// right authority are answered.
func TestClientCertificates(t *testing.T) {
	testsupport.RequireBPF(t)
	authority, other := testsupport.NewPKI(t), testsupport.NewPKI(t)
	server, client, stranger := authority.Server(t, "server"), authority.Client(t, "client"), other.Client(t, "client")
	r := startHTTP(t, nobody, ", web_config: "+webFile(t, fmt.Sprintf(
		"tls_server_config: {cert_file: %s, key_file: %s, client_ca_file: %s, client_auth_type: RequireAndVerifyClientCert}", server.CertFile, server.KeyFile, authority.CA)), "")
	for _, c := range []struct {
		what        string
		certificate *tls.Certificate
		want        int
	}{{"the right one", &client.Certificate, 200}, {"none", nil, 0}, {"one of another authority", &stranger.Certificate, 0}} {
		if code, _, err := (visitor{pool: authority.Pool, certificate: c.certificate}).visit(r, "/metrics"); code != c.want {
			t.Errorf("%s: status %d, %v", c.what, code, err)
		}
	}
}

// TestReloadOfTheListener: what scrapers see of the configuration changes while
// the address stays, also from plain HTTP to TLS and back.
func TestReloadOfTheListener(t *testing.T) {
	testsupport.RequireBPF(t)
	r := start(t, nobody, "")
	authority := testsupport.NewPKI(t)
	pair := authority.Server(t, "server")
	server := fmt.Sprintf("tls_server_config: {cert_file: %s, key_file: %s}", pair.CertFile, pair.KeyFile)
	path := webFile(t)
	reload := func(http string) {
		t.Helper()
		r.http = http
		r.write(t, nobody, "")
		r.agent.reloadFrom(r.path)
	}
	plain := func() bool { code, body := r.get(t, "/healthz"); return code == 200 && body == "ok\n" }
	secure := func() bool {
		code, _, err := visitor{pool: authority.Pool}.visit(r, "/healthz")
		return err == nil && code == 200
	}
	reload(", web_config: " + path)
	eventually(t, "an answer in the clear, as the file says nothing else", plain)
	rewrite(t, path, server)
	reload(", web_config: " + path)
	eventually(t, "an answer over TLS", secure)
	reload("")
	eventually(t, "an answer in the clear", plain)
	if _, body := r.get(t, "/metrics"); !strings.Contains(body, `beamprof_config_reloads_total{result="ok"} 3`) || strings.Contains(body, `beamprof_config_reloads_total{result="failed"}`) {
		t.Errorf("not all was taken:\n%s", r.log.String())
	}
}

// TestWebConfigRefuses: what is wrong is said, before anything listens.
func TestWebConfigRefuses(t *testing.T) {
	authority := testsupport.NewPKI(t)
	pair, another := authority.Server(t, "server"), authority.Server(t, "another")
	server := fmt.Sprintf("tls_server_config: {cert_file: %s, key_file: %s}", pair.CertFile, pair.KeyFile)
	withClients := func(more string) string { return strings.TrimSuffix(server, "}") + ", " + more + "}" }
	user := "basic_auth_users: {me: " + hashed(t, "secret") + "}"
	here, everywhere := "127.0.0.1:0", "0.0.0.0:0"
	for _, c := range []struct{ listen, file, want string }{
		{here, "", ""},
		{here, user, ""},
		{here, server, ""},
		{everywhere, server + "\n" + user, ""},
		{everywhere, withClients("client_ca_file: " + authority.CA + ", client_auth_type: RequireAndVerifyClientCert"), ""},
		{"[::1]:0", server, ""},
		{"localhost:0", "", ""},

		{here, "tls_server: {}", ":1: unknown key tls_server"},
		{here, server + "\nbasic_auth_users:\n  - me", ":3: cannot unmarshal"},
		{here, "basic_auth_users: {me: pass-w0rd}", `the password of "me" in basic_auth_users is no bcrypt hash`},
		{here, "basic_auth_users: pass-w0rd", ":1: cannot unmarshal"},
		{here, fmt.Sprintf("tls_server_config: {cert_file: %s}", pair.CertFile), "missing one of key or key_file"},
		{here, fmt.Sprintf("tls_server_config: {key_file: %s}", pair.KeyFile), "missing one of cert or cert_file"},
		{here, fmt.Sprintf("tls_server_config: {cert_file: %s, key_file: %s}", pair.CertFile, another.KeyFile), "private key does not match public key"},
		{here, fmt.Sprintf("tls_server_config: {cert_file: %s, key_file: /no/such/file}", pair.CertFile), "/no/such/file"},
		{here, withClients("client_auth_type: Sometimes"), "invalid ClientAuth: Sometimes"},
		{here, withClients("client_ca_file: " + pair.KeyFile + ", client_auth_type: RequireAndVerifyClientCert"), "needs a client_ca_file that holds a certificate"},
		{here, withClients("client_auth_type: RequireAndVerifyClientCert"), "needs a client_ca_file"},
		{here, withClients("client_ca_file: " + authority.CA), "without a Client Auth Policy"},
		{here, withClients("min_version: TLS9"), "unknown TLS version: TLS9"},
		{everywhere, "", "has no tls_server_config"},
		{everywhere, user, "has no tls_server_config"},
		{everywhere, server, "lets everybody in"},
		{"10.0.0.1:9767", withClients("client_ca_file: " + authority.CA + ", client_auth_type: VerifyClientCertIfGiven"), "lets everybody in"},
		{everywhere, withClients("client_auth_type: RequireAnyClientCert"), "lets everybody in"},
	} {
		path := webFile(t, c.file)
		_, err := parse(t, fmt.Sprintf("http: {listen: '%s', web_config: %s}", c.listen, path))
		if c.want == "" {
			if err != nil {
				t.Errorf("%s\n%s:\n%v", c.listen, c.file, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "http.web_config: ") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s\n%s:\n%v, want %q", c.listen, c.file, err, c.want)
		} else if bytes.Contains([]byte(err.Error()), []byte("w0rd")) {
			t.Errorf("a password is shown: %v", err)
		}
	}
	if _, err := parse(t, "http: {web_config: /no/such/file}"); err == nil || !strings.Contains(err.Error(), "http.web_config: open /no/such/file") {
		t.Error(err)
	}
}

// TestNoRequestIsLostInReloads: whoever connects while one server follows another
// at the same address is answered by one of them.
func TestNoRequestIsLostInReloads(t *testing.T) {
	testsupport.RequireBPF(t)
	r := start(t, nobody, "")
	var clients sync.WaitGroup
	var done atomic.Bool
	var answered atomic.Int64
	for range 8 {
		clients.Go(func() {
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			for !done.Load() {
				answer, err := client.Get(r.url + "/healthz")
				if err != nil {
					t.Errorf("after %d answers: %v", answered.Load(), err)
					return
				}
				answer.Body.Close()
				answered.Add(1)
			}
		})
	}
	for i := range 300 {
		r.http = fmt.Sprintf(", max_scrapes: %d", 1+i%2)
		r.write(t, nobody, "")
		r.agent.reloadFrom(r.path)
	}
	done.Store(true)
	clients.Wait()
	if answered.Load() == 0 {
		t.Error("nothing was asked meanwhile")
	}
}
