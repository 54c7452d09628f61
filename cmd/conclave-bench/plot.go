package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// plot writes each chart of the report as an SVG file.
func (r *report) plot(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	done := map[string]bool{}
	for _, s := range r.Series {
		if done[s.Chart] {
			continue
		}
		done[s.Chart] = true
		if err := r.chart(dir, s); err != nil {
			return fmt.Errorf("plot %s: %w", s.Chart, err)
		}
	}
	return nil
}

// chart draws all series of the chart that like belongs to.
func (r *report) chart(dir string, like series) error {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = like.Chart, like.XName, like.YName
	p.Y.Min = 0
	p.Legend.Top, p.Legend.Left = true, true
	if like.LogX {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.ConstantTicks(ticks(like.X))
	}
	p.Add(plotter.NewGrid())
	n := 0
	for _, s := range r.Series {
		if s.Chart != like.Chart {
			continue
		}
		points := make(plotter.XYs, len(s.X))
		for i := range s.X {
			points[i].X, points[i].Y = s.X[i], s.Y[i]
			p.Y.Max = max(p.Y.Max, 1.15*s.Y[i])
		}
		line, marks, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		line.Color, marks.Color, marks.Shape = plotutil.Color(n), plotutil.Color(n), plotutil.Shape(n)
		p.Add(line, marks)
		p.Legend.Add(s.Name, line, marks)
		n++
	}
	p.Y.Min = 0
	return p.Save(16*vg.Centimeter, 9*vg.Centimeter, filepath.Join(dir, fileName(like.Chart)))
}

// ticks puts a label at each measured value.
func ticks(x []float64) []plot.Tick {
	var list []plot.Tick
	for _, v := range x {
		list = append(list, plot.Tick{Value: v, Label: short(v)})
	}
	return list
}

// fileName derives a file name from a chart's name.
func fileName(chart string) string {
	name := strings.FieldsFunc(strings.ToLower(chart), func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') })
	return strings.Join(name, "-") + ".svg"
}
