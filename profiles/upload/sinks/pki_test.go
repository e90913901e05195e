package sinks

import (
	"crypto/tls"
	"testing"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// pki is a certificate authority with one server, named profiles.example, and
// one client, which the server asks for.
type pki struct {
	server           *tls.Config
	ca, cert, keyPEM string // files
}

func newPKI(t testing.TB) *pki {
	t.Helper()
	authority := testsupport.NewPKI(t)
	server, client := authority.Server(t, "server", "profiles.example"), authority.Client(t, "client")
	return &pki{
		server: &tls.Config{
			Certificates: []tls.Certificate{server.Certificate},
			ClientCAs:    authority.Pool, ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"h2", "http/1.1"},
		},
		ca: authority.CA, cert: client.CertFile, keyPEM: client.KeyFile,
	}
}
