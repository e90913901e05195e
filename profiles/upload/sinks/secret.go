package sinks

import (
	"fmt"
	"io"
	"strings"
)

// Secret is text that is never printed: not by fmt, yaml, json or zerolog.
// Convert it to string where it is used.
type Secret string

const hidden = "<secret>"

// String returns a stand-in, or nothing if the secret is empty.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// Format writes the stand-in whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// MarshalText returns the stand-in.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML leaves out the query of the URL: keys are often in it.
func (c Config) MarshalYAML() (any, error) {
	type plain Config
	if before, query, ok := strings.Cut(c.URL, "?"); ok && query != "" {
		c.URL = before + "?" + hidden
	}
	return plain(c), nil
}
