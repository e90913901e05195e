package summary

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxFile bounds the size of a summary that is read, in bytes. One that is
// full in every list takes less than 1 MiB.
const maxFile = 16 << 20

// ErrSchema says that a file is no summary, or one of another schema.
var ErrSchema = errors.New("not a " + Schema + " file")

// Write writes the summary as indented JSON with a final line break.
func (s *Summary) Write(w io.Writer) error { return writeJSON(w, s) }

// Write writes the cluster as indented JSON with a final line break.
func (c *Cluster) Write(w io.Writer) error { return writeJSON(w, c) }

func writeJSON(w io.Writer, what any) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // pids are <0.1.0>
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(what); err != nil {
		return fmt.Errorf("encode as JSON: %w", err)
	}
	_, err := b.WriteTo(w)
	return err
}

// Read reads a summary. Errors wrap ErrSchema if the input is something else.
func Read(r io.Reader) (*Summary, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%w: larger than %d MiB", ErrSchema, maxFile>>20)
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	if head.Schema != Schema {
		return nil, fmt.Errorf("%w: its schema is %q", ErrSchema, head.Schema)
	}
	s := new(Summary)
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	return s, nil
}
