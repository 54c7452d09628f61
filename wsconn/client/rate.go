package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/secret"
)

const (
	maxRate       = 10_000    // what is kept for one rule
	maxRatesBytes = 256 << 20 // of the file; a rule with its maxRate takes 2 MiB at most
)

// RateLog remembers what the rules of a [Policy] have allowed, so that a restart
// does not begin to count anew. The zero value remembers in memory only. It is
// safe for concurrent use, by one process.
type RateLog struct {
	path string

	mu      sync.Mutex
	allowed map[string][]allowance // by rule
}

// allowance is a session that a rule has allowed.
type allowance struct {
	Session string    `json:"session_id"`
	At      time.Time `json:"at"`
}

// OpenRateLog reads the file in which allowances are kept, which is made when
// there are any.
func OpenRateLog(path string) (*RateLog, error) {
	l := &RateLog{path: path}
	text, err := readBounded(path, maxRatesBytes)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return l, nil
	case err != nil:
		return nil, fmt.Errorf("read rates: %w", err)
	}
	if err := json.Unmarshal(text, &l.allowed); err != nil {
		return nil, fmt.Errorf("read rates: %s is damaged", path)
	}
	return l, nil
}

// take allows a session under a rule if fewer than count others were allowed in
// the time before now. It is written down before it returns. The same session
// again, which is asked about twice if the process ends in between, counts once.
func (l *RateLog) take(rule, session string, count int, per time.Duration, now time.Time) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// What lies in the future, for a clock was set back, still counts.
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
	if l.path == "" {
		return nil
	}
	text, err := json.Marshal(l.allowed)
	if err != nil {
		return err
	}
	return secret.WriteFile(l.path, text)
}
