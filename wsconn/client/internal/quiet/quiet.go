// Package quiet limits the output that a server can cause at a client: log lines,
// and events for a terminal. Omitted ones are counted.
package quiet

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	quietPeriod = time.Minute
	maxWarnings = 120  // log lines of one level in a period, from warnings up
	maxDetails  = 6000 // and below
)

// Budget allows Most events in each minute. The zero value allows none. It is safe
// for concurrent use.
type Budget struct {
	Most int

	mu    sync.Mutex
	since time.Time
	used  int
	left  int // omitted
}

// Take reports whether there is room for one more; and how many were omitted in the
// previous period, once that has ended.
func (b *Budget) Take(now time.Time) (ok bool, leftOut int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.since) >= quietPeriod || now.Before(b.since) {
		leftOut = b.left
		b.since, b.used, b.left = now, 0, 0
	}
	if b.used >= b.Most {
		b.left++
		return false, leftOut
	}
	b.used++
	return true, leftOut
}

// sampler is a zerolog.Sampler that gives each level its budget.
type sampler struct {
	log     zerolog.Logger // reports the omitted lines
	budgets [zerolog.PanicLevel + 1]Budget
}

// Log returns log with a budget for each level: 120 lines a minute from warnings up,
// 6000 below.
func Log(log zerolog.Logger) zerolog.Logger {
	q := &sampler{log: log}
	for level := range q.budgets {
		q.budgets[level].Most = maxDetails
		if zerolog.Level(level) >= zerolog.WarnLevel {
			q.budgets[level].Most = maxWarnings
		}
	}
	return log.Sample(q)
}

// Sample implements zerolog.Sampler.
func (q *sampler) Sample(level zerolog.Level) bool {
	if level < 0 || int(level) >= len(q.budgets) {
		return true
	}
	ok, leftOut := q.budgets[level].Take(time.Now())
	if leftOut > 0 {
		q.log.WithLevel(level).Int("count", leftOut).Msg("log lines left out")
	}
	return ok
}
