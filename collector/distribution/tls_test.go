package distribution

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// tlsFlags makes erl use TLS between nodes, with a certificate of its own.
func tlsFlags(t *testing.T) []string {
	t.Helper()
	testsupport.RequireErlang(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	write := func(name, kind string, bytes []byte) string {
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return []string{
		"-proto_dist", "inet_tls",
		"-ssl_dist_opt", "server_certfile", write("cert.pem", "CERTIFICATE", certificate),
		"-ssl_dist_opt", "server_keyfile", write("key.pem", "EC PRIVATE KEY", der),
	}
}

// With TLS the bytes are those of its records, and the socket is found through
// the processes that stand between.
func TestTotalsOverTLS(t *testing.T) {
	p := startPair(t, testsupport.Options{Flags: tlsFlags(t)})
	p.connect(t)
	c := follow(t, p.target)
	p.checkPorts(t, c)
	p.a.Eval(t, "[{x, 'bpdist_b@localhost'} ! binary:copy(<<1>>, 1000) || _ <- lists:seq(1, 1000)], {ok, _} = erpc:call('bpdist_b@localhost', file, get_cwd, [])")
	c.end()
	totals := c.totals()
	if len(totals) != 1 || totals[0].Node != p.b.Node || totals[0].Unknown != 0 {
		t.Fatalf("%+v", totals)
	}
	if got := totals[0].SentBytes; got < 1_000_000 || got > 1_150_000 {
		t.Errorf("sent %d bytes", got)
	}
	p.a.Eval(t, "true = erlang:disconnect_node('bpdist_b@localhost')")
	p.b.Eval(t, "true = net_kernel:connect_node('bpdist_a@localhost')")
	// The other side knows of the connection a little earlier.
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c.end()
		totals = c.totals()
		if len(totals) == 1 && totals[0].Connections == 2 && totals[0].Unknown == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after a connection from the other side: %+v", totals)
		}
	}
	if got := totals[0].SentBytes; got < 1_000_000 || got > 1_150_000 {
		t.Errorf("sent %d bytes over both connections", got)
	}
}
