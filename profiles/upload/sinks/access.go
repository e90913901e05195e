package sinks

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"

	"github.com/beamprof/beamprof/profiles/text"
	"github.com/beamprof/beamprof/profiles/upload/limits"
)

// access is what a sink shows of itself to its server, and how it keeps that
// out of messages.
type access struct {
	config Config

	mu      sync.Mutex
	secrets []string // texts that messages must not hold
}

const (
	tenantHeader = "X-Scope-OrgID"
	maxMessage   = 300 // bytes of what a server says that are kept
)

func newAccess(c Config) *access {
	a := &access{config: c}
	for _, v := range c.Headers {
		a.keepSecret(string(v))
	}
	a.keepSecret(string(c.Auth.Password))
	a.keepSecret(string(c.Auth.Token))
	_, query, _ := strings.Cut(c.URL, "?")
	a.keepSecret(query)
	a.keepProxy()
	return a
}

// keepProxy keeps secret how one gets past the proxy that the environment names
// for the server, if any.
func (a *access) keepProxy() {
	server, err := url.Parse(a.config.URL)
	if err != nil {
		return
	}
	if a.config.grpc() { // it takes the proxy for https for all
		server.Scheme = "https"
	}
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: server})
	if err != nil || proxy == nil || proxy.User == nil {
		return
	}
	password, _ := proxy.User.Password()
	a.keepSecret(password)
	a.keepSecret(proxy.User.String())
	a.keepSecret(base64.StdEncoding.EncodeToString([]byte(proxy.User.Username() + ":" + password)))
}

// headers returns the headers of the next attempt.
func (a *access) headers() (http.Header, error) {
	h := http.Header{"User-Agent": {"beamprof"}}
	c := &a.config
	if c.Tenant != "" {
		h.Set(tenantHeader, c.Tenant)
	}
	token := string(c.Auth.Token)
	if c.Auth.TokenFile != "" {
		content, err := os.ReadFile(c.Auth.TokenFile)
		if err != nil {
			return nil, &Failure{Reason: ReasonLocal, Outage: true, Err: fmt.Errorf("read the token: %w", err)}
		}
		token = strings.TrimSpace(string(content))
		if token == "" || !httpguts.ValidHeaderFieldValue(token) {
			return nil, &Failure{Reason: ReasonLocal, Outage: true, Err: errors.New("read the token: auth.token_file holds none")}
		}
		a.keepSecret(token)
	}
	switch {
	case token != "":
		h.Set("Authorization", "Bearer "+token)
	case c.Auth.Username != "" || c.Auth.Password != "":
		pair := base64.StdEncoding.EncodeToString([]byte(c.Auth.Username + ":" + string(c.Auth.Password)))
		a.keepSecret(pair)
		h.Set("Authorization", "Basic "+pair)
	}
	for name, value := range c.Headers {
		h.Set(name, string(value))
	}
	return h, nil
}

func (a *access) keepSecret(s string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, known := range a.secrets {
		if known == s {
			return
		}
	}
	if s != "" {
		a.secrets = append(a.secrets[max(0, len(a.secrets)-100):], s) // tokens change as long as the agent runs
	}
}

// message returns what a server or the system said: short, printable, and
// without secrets, which servers may repeat.
func (a *access) message(s string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, secret := range a.secrets {
		s = strings.ReplaceAll(s, secret, hidden)
	}
	return limits.Short(text.Clean(strings.TrimSpace(s)), maxMessage)
}

// tlsConfig returns nil without TLS.
func (a *access) tlsConfig() (*tls.Config, error) {
	if !strings.HasPrefix(a.config.URL, "https:") {
		return nil, nil
	}
	t := a.config.TLS
	made := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.ca_file: %w", err)
		}
		made.RootCAs = x509.NewCertPool()
		if !made.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca_file: %s holds no certificate", t.CAFile)
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls.cert_file: %w", err)
		}
		made.Certificates = []tls.Certificate{pair}
	}
	return made, nil
}
