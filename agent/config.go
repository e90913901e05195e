package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/beamprof/beamprof/collector/connections"
	"github.com/beamprof/beamprof/collector/distribution"
	"github.com/beamprof/beamprof/collector/sampler"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/upload"
)

// Config is what the agent is to do.
type Config struct {
	Targets  Targets           `yaml:"targets"`
	Sampling Sampling          `yaml:"sampling"`
	Beside   Beside            `yaml:"beside"`
	Rules    string            `yaml:"rules"`  // auto, the name of a built-in set, or a file
	Labels   map[string]string `yaml:"labels"` // of all profiles
	Spool    string            `yaml:"spool"`  // directory of the sinks' queues
	Sinks    []upload.Config   `yaml:"sinks"`
	HTTP     HTTP              `yaml:"http"`

	rules *attribution.Rules // nil: chosen by what each node runs
}

// Targets say which VMs are profiled: those that any pattern fits, or all if
// there are none. Patterns are regular expressions (RE2), to fit all of a name.
type Targets struct {
	Nodes    []string      `yaml:"nodes"`    // of node names
	Commands []string      `yaml:"commands"` // of command lines, their arguments joined by blanks
	Interval time.Duration `yaml:"interval"` // between looks for new VMs

	nodes, commands []*regexp.Regexp
}

// Sampling says how.
type Sampling struct {
	Frequency int           `yaml:"frequency"` // Hz and CPU
	Window    time.Duration `yaml:"window"`    // after which metrics are brought up to date
	Profile   time.Duration `yaml:"profile"`   // of one profile, a multiple of Window
}

// Beside says what is looked at beside samples.
type Beside struct {
	Distribution string `yaml:"distribution"` // off; totals, without a probe in the VM; sampled or full, messages too
	Connections  string `yaml:"connections"`  // off, totals, or full: what MQTT clients say first, too
	Logs         string `yaml:"logs"`         // off or on
}

// off is the value that looks at nothing.
const off = "off"

var details = map[string]distribution.Detail{"totals": distribution.Totals, "sampled": distribution.Sampled, "full": distribution.Full}

var speech = map[string]connections.Detail{"totals": connections.CountOnly, "full": connections.Full}

func (b *Beside) check() error {
	if _, ok := details[b.Distribution]; !ok && b.Distribution != off {
		return fmt.Errorf("beside.distribution: %q is none of off, totals, sampled, full", b.Distribution)
	}
	if _, ok := speech[b.Connections]; !ok && b.Connections != off {
		return fmt.Errorf("beside.connections: %q is none of off, totals, full", b.Connections)
	}
	if b.Logs != off && b.Logs != "on" {
		return fmt.Errorf("beside.logs: %q is neither off nor on", b.Logs)
	}
	return nil
}

// HTTP says how scrapers are answered.
type HTTP struct {
	Listen     string `yaml:"listen"`      // host:port; empty: nobody is answered
	WebConfig  string `yaml:"web_config"`  // file with TLS and basic auth, as exporter-toolkit has it; needed off loopback
	MaxScrapes int    `yaml:"max_scrapes"` // profiles that are being taken at once

	mode webMode
}

// Defaults returns the configuration of an empty file.
func Defaults() *Config {
	return &Config{
		Targets:  Targets{Nodes: []string{}, Commands: []string{}, Interval: 5 * time.Second},
		Sampling: Sampling{Frequency: 19, Window: 15 * time.Second, Profile: time.Minute},
		Beside:   Beside{Distribution: "totals", Connections: "totals", Logs: "on"},
		Rules:    rulesAuto,
		Labels:   map[string]string{},
		Spool:    "/var/lib/beamprof/spool",
		Sinks:    []upload.Config{},
		HTTP:     HTTP{Listen: "127.0.0.1:9767", MaxScrapes: 4},
	}
}

// rulesAuto stands for the rules that fit the node.
const rulesAuto = "auto"

// Bounds of what can be configured.
const (
	minWindow  = time.Second
	maxProfile = time.Hour
	maxScrapes = 100
)

// Load reads and checks a configuration. Its errors are one a line, as
// FILE:LINE: message where a line is to blame.
func Load(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	c, err := Parse(text, os.LookupEnv)
	if err != nil {
		return nil, prefixed(path, err)
	}
	return c, nil
}

// prefixed puts the name of the file before each error.
func prefixed(path string, err error) error {
	var errs []error
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if number, rest, ok := strings.Cut(strings.TrimPrefix(line, "line "), ": "); ok && strings.HasPrefix(line, "line ") {
			line = number + ": " + rest
		} else {
			line = " " + line
		}
		errs = append(errs, errors.New(path+":"+line))
	}
	return errors.Join(errs...)
}

// Parse reads a configuration and checks it. environment looks up variables.
func Parse(text []byte, environment func(string) (string, bool)) (*Config, error) {
	if err := unknownKeys(text); err != nil {
		return nil, err
	}
	c := Defaults()
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, yamlError(err)
	}
	if err := expand(&document, environment); err != nil {
		return nil, err
	}
	if document.Kind != 0 {
		if err := document.Decode(c); err != nil {
			return nil, yamlError(err)
		}
	}
	return c, c.check()
}

// unknownKeys returns the keys that there are not, each with its line.
func unknownKeys(text []byte) error {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	err := decoder.Decode(Defaults())
	var wrong *yaml.TypeError
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return nil
	case !errors.As(err, &wrong):
		return yamlError(err)
	}
	// Values are not checked yet: variables in them are not expanded.
	unknown := slices.DeleteFunc(slices.Clone(wrong.Errors), func(e string) bool { return !unknownKey.MatchString(e) })
	if len(unknown) == 0 {
		return nil
	}
	return yamlError(&yaml.TypeError{Errors: unknown})
}

var unknownKey = regexp.MustCompile(`field (\S+) not found in type \S+|field (\S+) already set in type \S+`)

// yamlError says in our words what the YAML package says, without the values
// that it quotes: a password in the wrong place is one of them.
func yamlError(err error) error {
	var wrong *yaml.TypeError
	if !errors.As(err, &wrong) {
		return errors.New(withoutValues(strings.TrimPrefix(err.Error(), "yaml: ")))
	}
	var errs []error
	for _, e := range wrong.Errors {
		errs = append(errs, errors.New(withoutValues(unknownKey.ReplaceAllString(e, "unknown key $1"))))
	}
	return errors.Join(errs...)
}

var (
	quotedValue   = regexp.MustCompile("(?s) `.*`")
	unknownAnchor = regexp.MustCompile(`(?s)unknown anchor '.*' referenced`)
)

func withoutValues(message string) string {
	return unknownAnchor.ReplaceAllString(quotedValue.ReplaceAllString(message, ""), "a value that begins with * must be in quotes")
}

var variable = regexp.MustCompile(`\$\{([^}]*)\}`)

// expand replaces ${NAME} in values by the environment's variable NAME.
func expand(node *yaml.Node, environment func(string) (string, bool)) error {
	var errs []error
	if node.Kind == yaml.ScalarNode && variable.MatchString(node.Value) {
		node.Value = variable.ReplaceAllStringFunc(node.Value, func(text string) string {
			name := text[2 : len(text)-1]
			value, ok := environment(name)
			if !ok {
				errs = append(errs, fmt.Errorf("line %d: the environment has no variable %q", node.Line, name))
			}
			return value
		})
		if node.Style == 0 { // unquoted: it may have become a number
			node.Tag = ""
		}
	}
	for i, child := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 0 {
			continue // a key
		}
		errs = append(errs, expand(child, environment))
	}
	return errors.Join(errs...)
}

// check checks values, and prepares what is made of them.
func (c *Config) check() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	var err error
	if c.Targets.nodes, err = patterns(c.Targets.Nodes); err != nil {
		wrong("targets.nodes: %w", err)
	}
	if c.Targets.commands, err = patterns(c.Targets.Commands); err != nil {
		wrong("targets.commands: %w", err)
	}
	if c.Targets.Interval < time.Second {
		wrong("targets.interval: %v is below 1s", c.Targets.Interval)
	}
	s := c.Sampling
	if s.Frequency < 1 || s.Frequency > sampler.MaxFrequency {
		wrong("sampling.frequency: %d is not 1 to %d", s.Frequency, sampler.MaxFrequency)
	}
	if s.Window < minWindow {
		wrong("sampling.window: %v is below %v", s.Window, minWindow)
	} else if s.Profile < s.Window || s.Profile%s.Window != 0 || s.Profile > maxProfile {
		wrong("sampling.profile: %v is no multiple of sampling.window, %v, or above %v", s.Profile, s.Window, maxProfile)
	}
	if err := c.Beside.check(); err != nil {
		errs = append(errs, err)
	}
	if c.rules, err = loadRules(c.Rules); err != nil {
		wrong("rules: %w", err)
	}
	if !filepath.IsAbs(c.Spool) {
		wrong("spool: %q is not an absolute path", c.Spool)
	}
	if err := upload.Validate(c.Sinks); err != nil {
		errs = append(errs, err)
	}
	for i := range c.Sinks {
		c.Sinks[i] = c.Sinks[i].WithDefaults()
	}
	if err := c.HTTP.check(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (h *HTTP) check() error {
	if h.MaxScrapes < 1 || h.MaxScrapes > maxScrapes {
		return fmt.Errorf("http.max_scrapes: %d is not 1 to %d", h.MaxScrapes, maxScrapes)
	}
	if h.Listen == "" {
		return nil
	}
	name, _, err := net.SplitHostPort(h.Listen)
	if err != nil {
		return fmt.Errorf("http.listen: %w", err)
	}
	address := net.ParseIP(name)
	exposed := name != "localhost" && (address == nil || !address.IsLoopback())
	if h.WebConfig == "" {
		if exposed {
			return fmt.Errorf("http.listen: %s can be reached by others: give http.web_config a file with TLS and users", h.Listen)
		}
		return nil
	}
	if h.mode, err = checkWebConfig(h.WebConfig, exposed); err != nil {
		return fmt.Errorf("http.web_config: %w", err)
	}
	return nil
}

func patterns(texts []string) ([]*regexp.Regexp, error) {
	var all []*regexp.Regexp
	for _, text := range texts {
		pattern, err := regexp.Compile("^(?:" + text + ")$")
		if err != nil {
			return nil, err
		}
		all = append(all, pattern)
	}
	return all, nil
}

// loadRules returns the rules of a name or a file, nil for those that fit.
func loadRules(name string) (*attribution.Rules, error) {
	if name == rulesAuto {
		return nil, nil
	}
	if rules, ok := attribution.Builtin(name); ok {
		return rules, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("%q is neither auto, nor one of %s, nor a file that can be read (%w)", name, strings.Join(attribution.Names(), ", "), err)
	}
	return attribution.Parse(name, text)
}

// Write writes the configuration as YAML, secrets hidden.
func (c *Config) Write(w io.Writer) error {
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	return errors.Join(encoder.Encode(c), encoder.Close())
}

// sameEngine tells whether both sample the same VMs in the same way.
func (c *Config) sameEngine(old *Config) bool {
	return reflect.DeepEqual(c.Targets, old.Targets) && c.Sampling == old.Sampling && c.Beside == old.Beside && c.Rules == old.Rules &&
		reflect.DeepEqual(c.rules, old.rules) && reflect.DeepEqual(c.Labels, old.Labels)
}

// sameServer tells whether both answer in the same way, as far as a server that
// runs cannot change: see webMode.
func (c *Config) sameServer(old *Config) bool { return c.HTTP == old.HTTP }
