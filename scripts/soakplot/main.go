// Command soakplot draws the figures of scripts/soak as an SVG: CPU and memory
// of the agent over time, and when the back end was out of order.
//
//	go run ./scripts/soakplot FIGURES.csv PLOT.svg
package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "soakplot:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: soakplot FIGURES.csv PLOT.svg")
	}
	in, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer in.Close()
	rows, err := read(in)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return os.WriteFile(args[1], []byte(plot(rows)), 0o644)
}

// row is a minute of the figures.
type row struct {
	minutes, cpu, memory float64 // since the beginning, % of a core, MiB
	refused              float64 // by the back end, since the beginning
}

// read reads what TestSoak of cmd/beamprof wrote.
func read(in io.Reader) ([]row, error) {
	lines, err := csv.NewReader(in).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(lines) < 3 {
		return nil, fmt.Errorf("less than two lines of figures")
	}
	var rows []row
	for n, line := range lines[1:] {
		column := func(name string) float64 {
			i := slices.Index(lines[0], name)
			if i < 0 {
				err = fmt.Errorf("no column %s", name)
				return 0
			}
			value, failed := strconv.ParseFloat(line[i], 64)
			if failed != nil {
				err = fmt.Errorf("line %d, %s: %w", n+2, name, failed)
			}
			return value
		}
		rows = append(rows, row{column("seconds") / 60, column("cpu_percent"), column("resident_mib"), column("requests_refused")})
		if err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// The picture, in pixels: two panels, one below the other.
const (
	width, height     = 760, 420
	left, right       = 60, 20
	top, between      = 40, 40
	panel             = (height - top - between - 40) / 2
	cpuColor, ramFill = "#1f6feb", "#8250df"
)

func plot(rows []row) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	end := rows[len(rows)-1].minutes
	x := func(minutes float64) float64 { return left + minutes/end*(width-left-right) }
	for i := 1; i < len(rows); i++ {
		if rows[i].refused > rows[i-1].refused {
			fmt.Fprintf(&b, `<rect class="outage" x="%.1f" y="%d" width="%.1f" height="%d" fill="#f6e3e3"/>`+"\n",
				x(rows[i-1].minutes), top, x(rows[i].minutes)-x(rows[i-1].minutes), 2*panel+between)
		}
	}
	cpu := func(r row) float64 { return r.cpu }
	memory := func(r row) float64 { return r.memory }
	series(&b, rows, x, cpu, top, "CPU time, % of one core", cpuColor)
	series(&b, rows, x, memory, top+panel+between, "resident memory, MiB", ramFill)
	for tick := 0.0; tick <= end; tick += step(end) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%g</text>`+"\n", x(tick), top+2*panel+between+16, tick)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">minutes; shaded: the back end refused profiles</text>`+"\n", (left+width-right)/2, height-6)
	b.WriteString("</svg>\n")
	return b.String()
}

// series draws a panel with the line of one figure, from zero up.
func series(b *strings.Builder, rows []row, x func(float64) float64, value func(row) float64, above int, title, color string) {
	most, sum := 0.0, 0.0
	for _, r := range rows {
		most = max(most, value(r))
		sum += value(r)
	}
	size := step(most)
	highest := max(size, size*math.Ceil(most/size*1.05))
	y := func(v float64) float64 { return float64(above) + panel*(1-v/highest) }
	fmt.Fprintf(b, `<text x="%d" y="%d" font-weight="bold">%s: mean %.3g, most %.3g, last %.3g</text>`+"\n",
		left, above-8, title, sum/float64(len(rows)), most, value(rows[len(rows)-1]))
	for tick := 0.0; tick <= highest*1.001; tick += size {
		fmt.Fprintf(b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%.3g</text>`+"\n",
			left, y(tick), width-right, left-6, y(tick)+4, tick)
	}
	points := make([]string, len(rows))
	for i, r := range rows {
		points[i] = fmt.Sprintf("%.1f,%.1f", x(r.minutes), y(value(r)))
	}
	fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", strings.Join(points, " "), color)
}

// step returns a round distance of some four to eight marks up to a number.
func step(most float64) float64 {
	if most <= 0 {
		return 1
	}
	size := math.Pow(10, math.Floor(math.Log10(most)))
	for _, part := range []float64{0.1, 0.2, 0.25, 0.5, 1, 2} {
		if most/(size*part) <= 8 {
			return size * part
		}
	}
	return size
}
