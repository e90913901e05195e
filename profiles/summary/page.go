package summary

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/mattn/go-runewidth"

	"github.com/beamprof/beamprof/profiles/text"
)

// Style is what the place where a report is shown can do.
type Style struct {
	Width   int  // columns; reports use 80 to 100, and 80 if it is 0
	Color   bool // ANSI colours
	Unicode bool // bars and arrows; plain ASCII otherwise
	All     bool // all there is to say, and not what fits a screen
}

func (s Style) bounded() Style {
	s.Width = min(max(s.Width, 80), 100)
	return s
}

// page is text being laid out. Nothing on it is wider than the style's width,
// except for what a user may want to copy whole.
type page struct {
	bytes.Buffer
	style Style
}

// ANSI codes.
const (
	ansiBold   = "1"
	ansiDim    = "2"
	ansiRed    = "1;31"
	ansiYellow = "1;33"
	ansiCyan   = "36"
)

func (p *page) paint(code, s string) string {
	if !p.style.Color || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p *page) bold(s string) string { return p.paint(ansiBold, s) }

func (p *page) ellipsis() string {
	if p.style.Unicode {
		return "…"
	}
	return "~"
}

func (p *page) arrow() string {
	if p.style.Unicode {
		return "←"
	}
	return "<-"
}

func (p *page) line(parts ...string) {
	p.WriteString(strings.Join(parts, ""))
	p.WriteByte('\n')
}

func (p *page) heading(title, note string) {
	p.line()
	if note != "" {
		note = p.paint(ansiDim, "  "+note)
	}
	p.line(p.bold(title), note)
}

// labelWidth is the width of the words that stand before paragraphs.
const labelWidth = 9

// item prints a labelled paragraph.
func (p *page) item(label, content string) { p.paragraph(p.bold(text.Pad(label, labelWidth)), content) }

// warning prints a paragraph nobody should miss.
func (p *page) warning(content string) {
	p.paragraph(p.paint(ansiYellow, text.Pad("WARNING", labelWidth)), content)
}

func (p *page) paragraph(label, content string) {
	for i, line := range wrap(content, p.style.Width-labelWidth) {
		if i > 0 {
			label = strings.Repeat(" ", labelWidth)
		}
		p.line(label, line)
	}
}

// wrap breaks text into lines of at most width columns, between words where possible.
func wrap(s string, width int) []string {
	var lines []string
	current := ""
	for _, word := range strings.Fields(s) {
		word = text.Fit(word, width, "")
		switch {
		case current == "":
			current = word
		case text.Width(current)+1+text.Width(word) <= width:
			current += " " + word
		default:
			lines = append(lines, current)
			current = word
		}
	}
	return append(lines, current)
}

// row is a line of a list: a part of the CPU time, a name and a note.
type row struct {
	seconds, share float64
	name, note     string
}

// rows prints a list. Names and notes stand in columns of their own; where
// both do not fit, notes leave names three fifths of the room.
func (p *page) rows(rows []row, bars bool) {
	room := p.style.Width - len("   12.3%    45.67 s  ")
	if bars {
		room -= barColumns + 2
	}
	var nameWidth, noteWidth int
	for _, r := range rows {
		nameWidth = max(nameWidth, text.Width(r.name))
		noteWidth = max(noteWidth, text.Width(r.note))
	}
	if nameWidth+2+noteWidth > room {
		nameWidth = min(nameWidth, max(room*3/5, room-2-noteWidth))
	}
	for _, r := range rows {
		p.WriteString(fmt.Sprintf("%7.1f%% %8s s  ", 100*bounded(r.share, 99), decimals(r.seconds, 2)))
		if bars {
			p.WriteString(p.bar(r.share) + "  ")
		}
		if r.note == "" {
			p.line(text.Fit(r.name, room, p.ellipsis()))
			continue
		}
		name := text.Pad(text.Fit(r.name, nameWidth, p.ellipsis()), nameWidth)
		p.line(name, "  ", p.paint(ansiDim, cut(r.note, room-nameWidth-2, p.ellipsis())))
	}
}

// cut is text.Fit that lets the end go: notes begin with what matters.
func cut(s string, width int, ellipsis string) string {
	return runewidth.Truncate(s, width, ellipsis)
}

// barColumns is the width of a bar that stands for all of the CPU time.
const barColumns = 16

func (p *page) bar(share float64) string {
	eighths := int(max(0, min(share, 1))*barColumns*8 + 0.5)
	bar := strings.Repeat("#", (eighths+4)/8)
	if p.style.Unicode {
		bar = strings.Repeat("█", eighths/8)
		if part := eighths % 8; part > 0 {
			bar += string([]rune(" ▏▎▍▌▋▊▉")[part])
		}
	}
	return p.paint(ansiCyan, text.Pad(bar, barColumns))
}

func bounded(x, limit float64) float64 { return max(-limit, min(x, limit)) }

// decimals prints a number with so many digits after the point, and any number in eight columns or few more.
func decimals(x float64, digits int) string {
	if x >= 1e9 || x <= -1e9 {
		return fmt.Sprintf("%.2g", x)
	}
	return fmt.Sprintf("%.*f", digits, x)
}
