package sinks

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes; as text it has a unit: 64MiB.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// UnmarshalText reads a whole number with the unit B, KiB, MiB or GiB, or none for bytes.
func (s *Size) UnmarshalText(text []byte) error {
	number, factor := strings.TrimSpace(string(text)), int64(1)
	for _, unit := range sizeUnits {
		if rest, ok := strings.CutSuffix(number, unit.name); ok {
			number, factor = strings.TrimSpace(rest), unit.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return fmt.Errorf("%q is not a size: write a number with B, KiB, MiB or GiB", text)
	}
	*s = Size(n * factor)
	return nil
}

// MarshalText writes the size in the largest unit that leaves a whole number.
func (s Size) MarshalText() ([]byte, error) {
	for _, unit := range sizeUnits {
		if int64(s)%unit.bytes == 0 && s != 0 {
			return fmt.Appendf(nil, "%d%s", int64(s)/unit.bytes, unit.name), nil
		}
	}
	return []byte("0"), nil
}
