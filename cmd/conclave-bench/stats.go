package main

import (
	"math"
	"slices"
	"time"
)

// sample is measured values, in the order of measurement.
type sample []float64

func (s *sample) add(v float64) { *s = append(*s, v) }

// addTime adds a duration in ms.
func (s *sample) addTime(d time.Duration) { s.add(milliseconds(d)) }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// spread summarizes a sample.
type spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`  // first quartile
	High   float64 `json:"high"` // third quartile
	N      int     `json:"n"`
}

func (s sample) spread() spread {
	return spread{Median: s.quantile(0.5), Low: s.quantile(0.25), High: s.quantile(0.75), N: len(s)}
}

// quantile interpolates between the two nearest values; 0 for an empty sample.
func (s sample) quantile(q float64) float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	at := q * float64(len(sorted)-1)
	below := int(math.Floor(at))
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (at-float64(below))*(sorted[above]-sorted[below])
}

func (s sample) mean() float64 {
	sum := 0.0
	for _, v := range s {
		sum += v
	}
	return sum / float64(max(len(s), 1))
}
