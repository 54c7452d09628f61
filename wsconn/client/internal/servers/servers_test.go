package servers

import (
	"slices"
	"testing"
	"time"
)

func TestServersOrder(t *testing.T) {
	now := time.Now()
	s := New(3)
	check := func(what string, at time.Time, order ...int) {
		t.Helper()
		if got := s.Order(at); !slices.Equal(got, order) {
			t.Errorf("%s: got %v, want %v", what, got, order)
		}
	}
	check("at first", now, 0, 1, 2)
	s.Failing(0, now)
	check("after a failure", now, 1, 2, 0)
	s.Failing(1, now)
	s.Failing(1, now)
	check("after others", now, 2, 0, 1)
	check("much later", now.Add(2*avoidMost), 2, 0, 1)
	s.Answered(1)
	check("the one that has answered is first", now, 1, 2, 0)
	later := now.Add(2 * avoidMost)
	s.Failing(2, later)
	check("one that has failed is last, though it was not preferred", later, 1, 0, 2)
	for range 40 {
		s.Failing(2, later)
	}
	s.Failing(0, later)
	check("of those that have failed, the one that may be tried sooner is first", later, 1, 0, 2)
	if until := s.failed[2].until; until.After(later.Add(avoidMost)) {
		t.Errorf("avoided for %s", until.Sub(later))
	}
}
