package participant

import (
	"slices"
	"time"

	"github.com/conclave-mpc/conclave/session/party"
)

// watch detects a run that makes no progress.
type watch struct {
	round, rounds int
	waiting       []int
	since         time.Time // time of its last progress
	seen, told    bool      // it waits, as reported by two looks in a row, and by stuck
}

// turned reports whether the run is in another round than before.
func (w *watch) turned(run *party.Run) bool {
	n, of := run.Round()
	turned := n != w.round
	if turned {
		w.since, w.seen, w.told = time.Now(), false, false
	}
	w.round, w.rounds = n, of
	return turned
}

// look returns how long the run has waited for the same parties. While this client
// is offline no other party is to blame.
func (w *watch) look(run *party.Run, online bool, now time.Time) time.Duration {
	waiting := run.Waiting()
	if len(waiting) == 0 || !online || !slices.Equal(waiting, w.waiting) {
		w.waiting, w.since, w.seen, w.told = waiting, now, false, false
	} else {
		w.seen = true
	}
	return now.Sub(w.since)
}

// stuck reports, once, that the run waited for the same parties at two looks in a
// row.
func (w *watch) stuck() bool {
	if !w.seen || w.told {
		return false
	}
	w.told = true
	return true
}
