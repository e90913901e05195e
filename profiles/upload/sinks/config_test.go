package sinks

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func TestConfigFromYAML(t *testing.T) {
	text := `
name: fleet
type: pyroscope_push
url: https://profiles.example:4040
labels: {region: eu}
label_allow: [workload]
auth: {username: me, password: secret}
tenant: team
headers: {X-Key: secret}
tls: {ca_file: /ca.pem, server_name: other}
timeout: 5s
queue: {max_bytes: 64MiB, max_age: 30m}
`
	want := Config{
		Name: "fleet", Type: TypePyroscopePush, URL: "https://profiles.example:4040", Labels: map[string]string{"region": "eu"},
		LabelAllow: []string{"workload"}, Auth: Auth{Username: "me", Password: "secret"}, Tenant: "team",
		Headers: map[string]Secret{"X-Key": "secret"}, TLS: TLS{CAFile: "/ca.pem", ServerName: "other"},
		Timeout: 5 * time.Second, Queue: Queue{MaxBytes: 64 << 20, MaxAge: 30 * time.Minute},
	}
	var got Config
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Auth.Password != "secret" {
		t.Error("the password is not read")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
	if filled := got.WithDefaults(); cmp.Diff(got, filled) != "" {
		t.Error("what is set is not kept:", cmp.Diff(got, filled))
	}
	printed, err := yaml.Marshal(got)
	if err != nil || strings.Contains(string(printed), " secret") || !strings.Contains(string(printed), "max_bytes: 64MiB") {
		t.Errorf("%v\n%s", err, printed)
	}
}

func TestDefaults(t *testing.T) {
	for _, kind := range types {
		c := Config{Name: "a", Type: kind, URL: "http://127.0.0.1:1"}
		if kind == TypeDirectory {
			c.URL, c.Directory.Path = "", "/tmp"
		}
		c = c.WithDefaults()
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if c.Timeout == 0 || c.Queue.MaxAge == 0 || c.Queue.MaxBytes == 0 || (len(c.LabelAllow) == 0) != (kind == TypeDirectory) {
			t.Errorf("%s: %+v", kind, c)
		}
		if strings.HasPrefix(kind, TypePyroscope) != (c.Queue.MaxAge < time.Hour) {
			t.Errorf("%s keeps profiles for %v", kind, c.Queue.MaxAge)
		}
		for _, label := range c.LabelAllow {
			if label == "pid" || label == "process" {
				t.Errorf("%s uploads %s by default", kind, label)
			}
		}
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	good := Config{Name: "a", Type: TypeHTTP, URL: "https://host/path"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for key, changes := range map[string][]func(*Config){
		"name":    {func(c *Config) { c.Name = "" }, func(c *Config) { c.Name = "../up" }, func(c *Config) { c.Name = "A" }},
		"type":    {func(c *Config) { c.Type = "" }, func(c *Config) { c.Type = "kafka" }},
		"url":     {func(c *Config) { c.URL = "" }, func(c *Config) { c.URL = "host:80" }, func(c *Config) { c.URL = "https://me:pass-w0rd@host" }, func(c *Config) { c.URL = "ftp://h" }, func(c *Config) { c.URL = "https://pass-w0rd\x7f" }},
		"labels":  {func(c *Config) { c.Labels = map[string]string{"a-b": "x"} }, func(c *Config) { c.Labels = map[string]string{"__name__": "x"} }, func(c *Config) { c.Labels = map[string]string{"a": strings.Repeat("x", 3000)} }},
		"auth":    {func(c *Config) { c.Auth = Auth{Username: "me", Token: "t"} }, func(c *Config) { c.Auth = Auth{Token: "t", TokenFile: "/f"} }},
		"headers": {func(c *Config) { c.Headers = map[string]Secret{"a b": "x"} }, func(c *Config) { c.Headers = map[string]Secret{"A": "pass-w0rd\n"} }},
		"tenant":  {func(c *Config) { c.Tenant = "a\nb" }},
		"tls":     {func(c *Config) { c.TLS.CertFile = "/c" }, func(c *Config) { c.TLS.KeyFile = "/k" }, func(c *Config) { c.URL, c.TLS.CAFile = "http://h", "/ca" }},

		"label_allow":     {func(c *Config) { c.LabelAllow = []string{"a b"} }},
		"auth.token":      {func(c *Config) { c.Auth.Token = "pass-w0rd\n" }},
		"auth.username":   {func(c *Config) { c.Auth.Username = "a:b" }},
		"timeout":         {func(c *Config) { c.Timeout = -1 }},
		"queue.max_bytes": {func(c *Config) { c.Queue.MaxBytes = 1000 }, func(c *Config) { c.Queue.MaxBytes = -1 }},
		"queue.max_age":   {func(c *Config) { c.Queue.MaxAge = -1 }},
		"directory":       {func(c *Config) { c.Directory.Path = "/tmp" }},
		"directory.path":  {func(c *Config) { *c = Config{Name: "a", Type: TypeDirectory, Directory: Directory{Path: "relative"}} }},
	} {
		for i, change := range changes {
			c := good
			change(&c)
			err := c.Validate()
			if err == nil || !strings.Contains("\n"+err.Error(), "\n"+key+": ") || strings.Contains(err.Error(), "pass-w0rd") {
				t.Errorf("%s, %d: %v", key, i, err)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "1000": 1000, "64MiB": 64 << 20, "1 GiB": 1 << 30, "3KiB": 3 << 10, "5B": 5} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%s is %d, %v", text, s, err)
		}
		printed, _ := s.MarshalText()
		var again Size
		if err := again.UnmarshalText(printed); err != nil || again != s {
			t.Errorf("%s was printed as %s, which is %d, %v", text, printed, again, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1MB", "1.5GiB", "99999999999GiB", "0x10"} {
		if err := new(Size).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken for a size", text)
		}
	}
}
