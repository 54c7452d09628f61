package policy

import (
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"
)

const maxRate = 10_000 // allowances kept for one rule

// RateLog stores what the rules of a [Policy] have allowed. The zero value stores it in
// memory; see [NewRateLog], and OpenRates of package wsconn/client/dirstore, which
// keeps it in a file. It is safe for concurrent use, by one process.
type RateLog struct {
	save func([]byte) error // nil: in memory only

	mu      sync.Mutex
	allowed map[string][]allowance // by rule
}

// allowance is a session allowed by a rule.
type allowance struct {
	Session string    `json:"session_id"`
	At      time.Time `json:"at"`
}

// NewRateLog returns a log that continues from saved, nil for an empty log, so that a
// restart does not reset the counts. Save stores its text durably before it returns; it
// is called by one goroutine at a time.
func NewRateLog(saved []byte, save func(text []byte) error) (*RateLog, error) {
	l := &RateLog{save: save}
	if saved == nil {
		return l, nil
	}
	if err := json.Unmarshal(saved, &l.allowed); err != nil {
		return nil, errors.New("what was saved is damaged")
	}
	return l, nil
}

// Take allows a session under a rule if fewer than count others were allowed within per
// before now. It is saved before Take returns. A repeated session, for example after a
// crash in between, counts once.
func (l *RateLog) Take(rule, session string, count int, per time.Duration, now time.Time) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Entries in the future, after a clock was set back, still count.
	recent := slices.DeleteFunc(slices.Clone(l.allowed[rule]), func(a allowance) bool { return now.Sub(a.At) >= per })
	if slices.ContainsFunc(recent, func(a allowance) bool { return a.Session == session }) {
		return true, nil
	}
	if len(recent) >= count {
		return false, nil
	}
	if l.allowed == nil {
		l.allowed = map[string][]allowance{}
	}
	before := l.allowed[rule]
	l.allowed[rule] = append(recent, allowance{session, now.UTC()})
	if err := l.write(); err != nil {
		l.allowed[rule] = before
		return false, err
	}
	return true, nil
}

func (l *RateLog) write() error {
	if l.save == nil {
		return nil
	}
	text, err := json.Marshal(l.allowed)
	if err != nil {
		return err
	}
	return l.save(text)
}
