package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

const header = "seconds,cpu_percent,resident_mib,open_files,profiles_taken,requests_refused\n"

func TestPlot(t *testing.T) {
	figures := header
	for minute := 1; minute <= 120; minute++ {
		figures += fmt.Sprintf("%d,%.3f,%.1f,100,%d,%d\n", 60*minute, 0.3+0.001*float64(minute%7), 45.5, minute, minute/3)
	}
	rows, err := read(strings.NewReader(figures))
	if err != nil || len(rows) != 120 || rows[119] != (row{120, 0.301, 45.5, 40}) {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	lines, outages := 0, 0
	for decoder := xml.NewDecoder(strings.NewReader(plot(rows))); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		for _, a := range element.Attr {
			if a.Name.Local == "points" {
				lines++
				checkPoints(t, a.Value, len(rows))
			}
			if a.Name.Local == "class" && a.Value == "outage" {
				outages++
			}
		}
	}
	if lines != 2 || outages != 40 {
		t.Errorf("%d lines, %d outages", lines, outages)
	}
}

// checkPoints checks that all points are within the picture, from left to right.
func checkPoints(t *testing.T, points string, want int) {
	t.Helper()
	n, last := 0, 0.0
	for point := range strings.FieldsSeq(points) {
		var x, y float64
		if _, err := fmt.Sscanf(point, "%f,%f", &x, &y); err != nil || x < last || x < left || x > width-right || y < top || y > height {
			t.Errorf("point %s: %v", point, err)
		}
		last = x
		n++
	}
	if n != want {
		t.Errorf("%d points of %d", n, want)
	}
}

func TestReadRefuses(t *testing.T) {
	for _, text := range []string{"", header, header + "60,1,2,3,4,5\n", "seconds\n60\n120\n", header + "60,1,2,3,4,5\n120,much,2,3,4,5\n", header + "60\n"} {
		if _, err := read(strings.NewReader(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestStep(t *testing.T) {
	for most, want := range map[float64]float64{120: 20, 0.36: 0.05, 45: 10, 0: 1, 8: 1, 9: 2, 1: 0.2} {
		if got := step(most); got != want {
			t.Errorf("up to %g: %g, want %g", most, got, want)
		}
	}
}
