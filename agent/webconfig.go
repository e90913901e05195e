package agent

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/bcrypt"
)

// webMode is what of the file of http.web_config is fixed when a server starts;
// users, certificates and keys are read again for each request or connection.
type webMode struct {
	tls, http2 bool
	limit      web.RateLimiterConfig
}

// checkWebConfig checks the file of http.web_config. exposed says that others
// than this host's own users can connect. Its errors hold no secrets.
func checkWebConfig(path string, exposed bool) (webMode, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return webMode{}, err
	}
	c := web.Config{HTTPConfig: web.HTTPConfig{HTTP2: true}}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return webMode{}, prefixed(path, yamlError(err))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Users)) {
		if _, err := bcrypt.Cost([]byte(c.Users[name])); err != nil { // it would show a part
			return webMode{}, fmt.Errorf("%s: the password of %q in basic_auth_users is no bcrypt hash: make one with htpasswd -nBC 10 %s", path, name, name)
		}
	}
	if err := web.Validate(path); err != nil {
		return webMode{}, fmt.Errorf("%s: %w", path, err)
	}
	verified, err := checkClients(&c.TLSConfig, path)
	if err != nil {
		return webMode{}, fmt.Errorf("%s: %w", path, err)
	}
	switch {
	case exposed && !c.TLSConfig.IsEnabled():
		err = fmt.Errorf("%s has no tls_server_config, and others can connect to http.listen", path)
	case exposed && len(c.Users) == 0 && !verified:
		err = fmt.Errorf("%s lets everybody in: it needs basic_auth_users, or a client_ca_file with client_auth_type RequireAndVerifyClientCert", path)
	}
	return webMode{c.TLSConfig.IsEnabled(), c.HTTPConfig.HTTP2, c.RateLimiterConfig}, err
}

// checkClients tells whether clients must have a certificate of an authority
// that is named. Without one, those of the system would do, which is never meant.
func checkClients(c *web.TLSConfig, path string) (verified bool, err error) {
	switch c.ClientAuth {
	case "VerifyClientCertIfGiven", "RequireAndVerifyClientCert":
	default:
		return false, nil
	}
	pem := []byte(c.ClientCAsText)
	if c.ClientCAs != "" {
		c.SetDirectory(filepath.Dir(path))
		if pem, err = os.ReadFile(c.ClientCAs); err != nil {
			return false, fmt.Errorf("client_ca_file: %w", err)
		}
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return false, fmt.Errorf("client_auth_type %s needs a client_ca_file that holds a certificate", c.ClientAuth)
	}
	return c.ClientAuth == "RequireAndVerifyClientCert", nil
}
