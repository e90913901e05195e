package testsupport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// PKI is a certificate authority that lasts as long as a test.
type PKI struct {
	CA   string // file with its certificate, PEM
	Pool *x509.CertPool

	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// Pair is a certificate and its key, in memory and as PEM files.
type Pair struct {
	tls.Certificate
	CertFile, KeyFile string
}

// NewPKI makes one.
func NewPKI(t testing.TB) *PKI {
	t.Helper()
	p := &PKI{Pool: x509.NewCertPool(), dir: t.TempDir()}
	made := p.issue(t, "ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	p.CA, p.key, p.cert = made.CertFile, made.PrivateKey.(*ecdsa.PrivateKey), made.Leaf
	p.Pool.AddCert(p.cert)
	return p
}

// Server issues a certificate for a server with these names, and 127.0.0.1. Its
// files are named for file; issued again, they are written over.
func (p *PKI) Server(t testing.TB, file string, names ...string) Pair {
	t.Helper()
	return p.issue(t, file, &x509.Certificate{
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// Client issues a certificate for a client.
func (p *PKI) Client(t testing.TB, file string) Pair {
	t.Helper()
	return p.issue(t, file, &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

func (p *PKI) issue(t testing.TB, file string, c *x509.Certificate) Pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	c.Subject.CommonName = file
	parent, signer := p.cert, p.key
	if parent == nil { // the authority itself
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Pair{
		Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf},
		CertFile:    p.write(t, file+".pem", "CERTIFICATE", der),
		KeyFile:     p.write(t, file+".key", "EC PRIVATE KEY", keyDER),
	}
}

func (p *PKI) write(t testing.TB, file, kind string, der []byte) string {
	t.Helper()
	name := filepath.Join(p.dir, file)
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
