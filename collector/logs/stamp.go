package logs

import (
	"bytes"
	"time"
)

// A stamp is the time at the beginning of a line. Two formats are read:
//
//	2026-11-22 13:13:01.658              lager, and logger with local time: no zone
//	2026-11-22T13:13:01.658123+00:00     logger (RFC 3339); or Z
//
// Blank or T, fractions of any length, and a zone or none are accepted in both.
type stamp struct {
	time  time.Time // in UTC; as if it were UTC, if there was no zone
	zoned bool
}

const stampLength = len("2026-11-22 13:13:01")

// stamps reads stamps. Many of a log's have the same second, which is read once.
type stamps struct {
	text   [stampLength]byte // that was read last
	second time.Time         // what it says
}

// parse reads the stamp that a line begins with.
func (s *stamps) parse(line []byte) (stamp, bool) {
	if len(line) < stampLength {
		return stamp{}, false
	}
	if s.second.IsZero() || !bytes.Equal(line[:stampLength], s.text[:]) {
		second, ok := parseSecond(line)
		if !ok {
			return stamp{}, false
		}
		s.second = second
		copy(s.text[:], line)
	}
	rest := line[stampLength:]
	nanoseconds := 0
	if len(rest) > 0 && (rest[0] == '.' || rest[0] == ',') {
		rest = rest[1:]
		for unit := 100_000_000; len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9'; unit /= 10 {
			nanoseconds += int(rest[0]-'0') * unit
			rest = rest[1:]
		}
	}
	offset, zoned := parseZone(rest)
	return stamp{s.second.Add(time.Duration(nanoseconds) - offset), zoned}, true
}

// parseStamp reads the stamp of a single line.
func parseStamp(line []byte) (stamp, bool) { return new(stamps).parse(line) }

// parseSecond reads a date and a time up to the second, which must be all there.
func parseSecond(line []byte) (time.Time, bool) {
	if line[4] != '-' || line[7] != '-' || line[10] != ' ' && line[10] != 'T' || line[13] != ':' || line[16] != ':' {
		return time.Time{}, false
	}
	year, ok0 := number(line[0:4])
	month, ok1 := number(line[5:7])
	day, ok2 := number(line[8:10])
	hour, ok3 := number(line[11:13])
	minute, ok4 := number(line[14:16])
	second, ok5 := number(line[17:19])
	if !(ok0 && ok1 && ok2 && ok3 && ok4 && ok5) || year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60 {
		return time.Time{}, false
	}
	return time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC), true
}

// parseZone reads Z, +hh:mm or -hh:mm.
func parseZone(s []byte) (time.Duration, bool) {
	if bytes.HasPrefix(s, []byte("Z")) {
		return 0, true
	}
	if len(s) < len("+00:00") || s[0] != '+' && s[0] != '-' || s[3] != ':' {
		return 0, false
	}
	hours, ok0 := number(s[1:3])
	minutes, ok1 := number(s[4:6])
	if !ok0 || !ok1 || hours > 23 || minutes > 59 {
		return 0, false
	}
	offset := time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
	if s[0] == '-' {
		offset = -offset
	}
	return offset, true
}

// number reads decimal digits and nothing else.
func number(s []byte) (n int, ok bool) {
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, true
}

// maxZone is how far local time can be from UTC.
const maxZone = 14 * time.Hour

// clock turns stamps into times. What zone a file's stamps without one are in
// is told by comparing one with the time when it was written.
type clock struct {
	offset time.Duration // local time - UTC
	known  bool
}

// calibrate sets the zone by a stamp and the time when its line was written,
// which zones differ from by quarters of an hour.
func (c *clock) calibrate(s stamp, written time.Time) {
	if s.zoned || c.known {
		return
	}
	c.offset, c.known = s.time.Sub(written).Round(15*time.Minute), true
	if c.offset.Abs() > maxZone {
		c.offset = 0
	}
}

func (c *clock) time(s stamp) time.Time {
	if s.zoned {
		return s.time
	}
	return s.time.Add(-c.offset)
}
