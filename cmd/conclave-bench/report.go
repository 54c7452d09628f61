package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// report is the result of a run of this program.
type report struct {
	Machine machine   `json:"machine"`
	Began   time.Time `json:"began"`
	Short   bool      `json:"short"`
	Figures []figure  `json:"figures"`
	Series  []series  `json:"series,omitempty"`

	bench string // the running benchmark
}

// figure is one line of the table.
type figure struct {
	Bench string `json:"bench"`
	Name  string `json:"name"`
	Unit  string `json:"unit"`
	Ours  spread `json:"ours"`
	// Base is the baseline, in the same unit, if there is one.
	Base *spread `json:"base,omitempty"`
	// Ratio is ours / base, unless the benchmark says otherwise.
	Ratio  float64 `json:"ratio,omitempty"`
	Target string  `json:"target,omitempty"` // "≤ 1.10"; of Ratio, or, if it says "figure", of Ours
	Met    *bool   `json:"met,omitempty"`
}

// series is one line of a chart.
type series struct {
	Chart string    `json:"chart"`
	Name  string    `json:"name"`
	XName string    `json:"x_name"`
	YName string    `json:"y_name"`
	LogX  bool      `json:"log_x,omitempty"`
	X     []float64 `json:"x"`
	Y     []float64 `json:"y"`
}

// goal is a target for a figure.
type goal struct {
	atMost, atLeast float64 // one of them; of the ratio
	oursAtMost      float64 // or this, of the figure itself
}

func (g goal) judge(f *figure) {
	met := func(ok bool, text string, bound float64) {
		f.Met = &ok
		f.Target = fmt.Sprintf("%s %.4g", text, bound)
	}
	switch {
	case g.atMost > 0:
		met(f.Ratio <= g.atMost, "≤", g.atMost)
	case g.atLeast > 0:
		met(f.Ratio >= g.atLeast, "≥", g.atLeast)
	case g.oursAtMost > 0:
		met(f.Ours.Median <= g.oursAtMost, "figure ≤", g.oursAtMost)
	}
}

// compare records a figure beside its base. The ratio is that of the medians.
func (r *report) compare(name, unit string, ours, base sample, g goal) {
	b := base.spread()
	f := figure{Bench: r.bench, Name: name, Unit: unit, Ours: ours.spread(), Base: &b}
	if b.Median > 0 {
		f.Ratio = f.Ours.Median / b.Median
	}
	g.judge(&f)
	r.Figures = append(r.Figures, f)
}

// note records a figure without a baseline.
func (r *report) note(name, unit string, ours sample, g goal) {
	f := figure{Bench: r.bench, Name: name, Unit: unit, Ours: ours.spread()}
	g.judge(&f)
	r.Figures = append(r.Figures, f)
}

// point adds a point to a chart's line.
func (r *report) point(chart, name, xName, yName string, logX bool, x, y float64) {
	for i := range r.Series {
		if s := &r.Series[i]; s.Chart == chart && s.Name == name {
			s.X, s.Y = append(s.X, x), append(s.Y, y)
			return
		}
	}
	r.Series = append(r.Series, series{chart, name, xName, yName, logX, []float64{x}, []float64{y}})
}

func (r *report) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

func (r *report) writeTable(w io.Writer) error {
	fmt.Fprintf(w, "%s\n\n", r.Machine)
	if r.Short {
		fmt.Fprint(w, "A short run: the figures are rough estimates.\n\n")
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "benchmark\twhat\tConclave\tbeside it\tratio\ttarget\t")
	for _, f := range r.Figures {
		base, ratio, mark := "", "", ""
		if f.Base != nil {
			base, ratio = f.Base.in(f.Unit), fmt.Sprintf("%.2f", f.Ratio)
		}
		if f.Met != nil {
			mark = " ok"
			if !*f.Met {
				mark = " MISSED"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t\n", f.Bench, f.Name, f.Ours.in(f.Unit), base, ratio, f.Target+mark)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "\nA figure is a median, with the first and third quartiles if there are several measurements.")
	return err
}

// in writes a spread with its unit.
func (s spread) in(unit string) string {
	text := short(s.Median)
	if s.N > 3 {
		text += fmt.Sprintf(" (%s–%s)", short(s.Low), short(s.High))
	}
	return strings.TrimSpace(text + " " + unit)
}

// short writes a number with three significant digits.
func short(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
