package sinks

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Types of sinks.
const (
	TypeDirectory     = "directory"      // files below a path
	TypePyroscope     = "pyroscope"      // POST /ingest
	TypePyroscopePush = "pyroscope_push" // push.v1.PusherService/Push
	TypeOTLPGRPC      = "otlp_grpc"
	TypeOTLPHTTP      = "otlp_http" // POST /v1development/profiles, protobuf
	TypeParca         = "parca"     // OTLP over gRPC, named as Parca names profiles
	TypeHTTP          = "http"      // POST of the pprof file
)

var types = []string{TypeDirectory, TypePyroscope, TypePyroscopePush, TypeOTLPGRPC, TypeOTLPHTTP, TypeParca, TypeHTTP}

// Config is one sink.
type Config struct {
	Name       string            `yaml:"name"`        // unique; a-z, 0-9, _ and -; the queue goes by it
	Type       string            `yaml:"type"`        // one of the types above
	URL        string            `yaml:"url"`         // http://host:port; https for TLS. Not for a directory
	Labels     map[string]string `yaml:"labels"`      // external labels; they win over a profile's own
	LabelAllow []string          `yaml:"label_allow"` // labels of samples to keep; none given: DefaultLabels, for a directory all
	Auth       Auth              `yaml:"auth"`
	Tenant     string            `yaml:"tenant"` // X-Scope-OrgID
	Headers    map[string]Secret `yaml:"headers"`
	TLS        TLS               `yaml:"tls"`
	Timeout    time.Duration     `yaml:"timeout"` // of one attempt
	Queue      Queue             `yaml:"queue"`
	Directory  Directory         `yaml:"directory"`
}

// Auth is at most one of: basic auth, a bearer token, a file with one, which is
// read for each attempt.
type Auth struct {
	Username  string `yaml:"username"`
	Password  Secret `yaml:"password"`
	Token     Secret `yaml:"token"`
	TokenFile string `yaml:"token_file"`
}

// TLS says whom to trust and how to be trusted. Files are PEM, read when the
// pipeline is made or reloaded.
type TLS struct {
	CAFile             string `yaml:"ca_file"` // instead of the system's
	CertFile           string `yaml:"cert_file"`
	KeyFile            string `yaml:"key_file"`
	ServerName         string `yaml:"server_name"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`
}

// Queue bounds what waits on disk for the sink.
type Queue struct {
	MaxBytes Size          `yaml:"max_bytes"`
	MaxAge   time.Duration `yaml:"max_age"`
}

// Directory says where files go and for how long they stay.
type Directory struct {
	Path     string        `yaml:"path"`
	MaxAge   time.Duration `yaml:"max_age"`
	MaxBytes Size          `yaml:"max_bytes"`
}

// DefaultLabels are the labels of samples that are uploaded unless the
// configuration names others, by their importance: those that take few values
// in a target that means well. Process ids and names are not among them.
func DefaultLabels() []string {
	return []string{
		"workload", "state", "thread", "basis", "process_kind", "request", "on_behalf_of", "scheduler",
		"peer", "direction", "operation", "closed_by",
	}
}

// Defaults.
const (
	defaultTimeout      = 10 * time.Second
	defaultQueueBytes   = 256 << 20
	defaultQueueAge     = 24 * time.Hour
	pyroscopeQueueAge   = 55 * time.Minute // Pyroscope refuses what is older than an hour
	defaultKeptAge      = 7 * 24 * time.Hour
	defaultKeptBytes    = 1 << 30
	minimumQueueBytes   = 1 << 20
	maxLabels           = 30 // of a series, Pyroscope
	maxLabelName        = 1024
	maxLabelValue       = 2048
	reservedLabelPrefix = "__"
)

// WithDefaults returns the configuration with what it leaves out.
func (c Config) WithDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Queue.MaxBytes == 0 {
		c.Queue.MaxBytes = defaultQueueBytes
	}
	if c.Queue.MaxAge == 0 {
		c.Queue.MaxAge = defaultQueueAge
		if c.Type == TypePyroscope || c.Type == TypePyroscopePush {
			c.Queue.MaxAge = pyroscopeQueueAge
		}
	}
	if c.Type == TypeDirectory {
		if c.Directory.MaxAge == 0 {
			c.Directory.MaxAge = defaultKeptAge
		}
		if c.Directory.MaxBytes == 0 {
			c.Directory.MaxBytes = defaultKeptBytes
		}
	} else if len(c.LabelAllow) == 0 {
		c.LabelAllow = DefaultLabels()
	}
	return c
}

var (
	sinkName  = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
)

// Validate returns an error for each key that is wrong, joined; each begins
// with the key. Files are not looked at.
func (c *Config) Validate() error {
	var errs []error
	wrong := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{key}, args...)...))
	}
	if !sinkName.MatchString(c.Name) {
		wrong("name", "%q must be 1 to 63 of a-z, 0-9, _ and -", c.Name)
	}
	if !slices.Contains(types, c.Type) {
		wrong("type", "%q is none of %s", c.Type, strings.Join(types, ", "))
	}
	c.validatePlace(wrong)
	c.validateLabels(wrong)
	c.validateAccess(wrong)
	if c.Timeout < 0 {
		wrong("timeout", "%v is negative", c.Timeout)
	}
	if c.Queue.MaxBytes != 0 && c.Queue.MaxBytes < minimumQueueBytes {
		wrong("queue.max_bytes", "must be at least 1MiB")
	}
	if c.Queue.MaxAge < 0 {
		wrong("queue.max_age", "%v is negative", c.Queue.MaxAge)
	}
	return errors.Join(errs...)
}

type complain func(key, format string, args ...any)

func (c *Config) validatePlace(wrong complain) {
	if c.Type == TypeDirectory {
		if !filepath.IsAbs(c.Directory.Path) {
			wrong("directory.path", "%q is not an absolute path", c.Directory.Path)
		}
		if c.Directory.MaxAge < 0 {
			wrong("directory.max_age", "%v is negative", c.Directory.MaxAge)
		}
		if c.URL != "" {
			wrong("url", "is not for a directory: use directory.path")
		}
		return
	}
	if c.Directory != (Directory{}) {
		wrong("directory", "is for sinks of type directory")
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil: // the error would quote the URL, which may hold a password
		wrong("url", "is not a URL")
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		wrong("url", "must be http://HOST:PORT or https://HOST:PORT")
	case u.User != nil:
		wrong("url", "must not hold a password: use auth")
	case u.RawQuery != "" && c.Type != TypeHTTP, u.Fragment != "":
		wrong("url", "must end with the path")
	case c.grpc() && strings.Trim(u.Path, "/") != "":
		wrong("url", "must have no path, as gRPC has its own")
	}
}

func (c *Config) grpc() bool { return c.Type == TypeOTLPGRPC || c.Type == TypeParca }

func (c *Config) validateLabels(wrong complain) {
	for name, value := range c.Labels {
		switch {
		case !labelName.MatchString(name) || len(name) > maxLabelName || strings.HasPrefix(name, reservedLabelPrefix):
			wrong("labels", "%q is not a label name: use a-z, A-Z, 0-9 and _, and no __ before", name)
		case len(value) > maxLabelValue:
			wrong("labels", "the value of %s is longer than %d bytes", name, maxLabelValue)
		}
	}
	if len(c.Labels) > maxLabels/2 {
		wrong("labels", "are more than %d", maxLabels/2)
	}
	for _, name := range c.LabelAllow {
		if !labelName.MatchString(name) {
			wrong("label_allow", "%q is not a label name", name)
		}
	}
}

func (c *Config) validateAccess(wrong complain) {
	ways := 0
	for _, set := range []bool{c.Auth.Username != "" || c.Auth.Password != "", c.Auth.Token != "", c.Auth.TokenFile != ""} {
		if set {
			ways++
		}
	}
	if ways > 1 {
		wrong("auth", "is more than one of username and password, token, token_file")
	}
	if strings.Contains(c.Auth.Username, ":") {
		wrong("auth.username", "must not hold a colon")
	}
	if !httpguts.ValidHeaderFieldValue(string(c.Auth.Token)) {
		wrong("auth.token", "holds what no header can")
	}
	for name, value := range c.Headers {
		if !httpguts.ValidHeaderFieldName(name) {
			wrong("headers", "%q is not a header name", name)
		} else if !httpguts.ValidHeaderFieldValue(string(value)) {
			wrong("headers", "the value of %s holds what no header can", name)
		}
	}
	if !httpguts.ValidHeaderFieldValue(c.Tenant) {
		wrong("tenant", "holds what no header can")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		wrong("tls", "needs both or none of cert_file and key_file")
	}
	if c.TLS != (TLS{}) && !strings.HasPrefix(c.URL, "https:") {
		wrong("tls", "needs an https url")
	}
}
