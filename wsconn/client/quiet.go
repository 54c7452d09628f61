package client

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// A server can say without end what is worth a line of the log, or of a
// terminal. Both have a budget, and what is left out is counted.

const (
	quietPeriod = time.Minute
	maxWarnings = 120  // log lines of one level in a period, from warnings up
	maxDetails  = 6000 // and below
	maxDeclines = 20   // events about invitations that nobody was asked about
)

// budget allows so many things in each period. The zero value allows none.
type budget struct {
	most int

	mu    sync.Mutex
	since time.Time
	used  int
	left  int // out
}

// take reports whether there is room for one more; and how many were left out in
// the period before, once that has ended.
func (b *budget) take(now time.Time) (ok bool, leftOut int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.since) >= quietPeriod || now.Before(b.since) {
		leftOut = b.left
		b.since, b.used, b.left = now, 0, 0
	}
	if b.used >= b.most {
		b.left++
		return false, leftOut
	}
	b.used++
	return true, leftOut
}

// sampler is a zerolog.Sampler that gives each level its budget.
type sampler struct {
	log     zerolog.Logger // says what was left out
	budgets [zerolog.PanicLevel + 1]budget
}

func quietLog(log zerolog.Logger) zerolog.Logger {
	q := &sampler{log: log}
	for level := range q.budgets {
		q.budgets[level].most = maxDetails
		if zerolog.Level(level) >= zerolog.WarnLevel {
			q.budgets[level].most = maxWarnings
		}
	}
	return log.Sample(q)
}

// Sample implements zerolog.Sampler.
func (q *sampler) Sample(level zerolog.Level) bool {
	if level < 0 || int(level) >= len(q.budgets) {
		return true
	}
	ok, leftOut := q.budgets[level].take(time.Now())
	if leftOut > 0 {
		q.log.WithLevel(level).Int("count", leftOut).Msg("log lines left out")
	}
	return ok
}
