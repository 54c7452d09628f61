package wsconn

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// recorder is a net.Conn that records its calls.
type recorder struct {
	net.Conn
	writes    []string
	deadlines []time.Time
	err       error
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	r.writes = append(r.writes, string(p))
	return len(p), nil
}

func (r *recorder) SetWriteDeadline(t time.Time) error {
	r.deadlines = append(r.deadlines, t)
	return nil
}

// Written data reaches the connection in order and whole, in as few writes as the
// buffer allows, and none of it stays in a buffer that is lent again.
func TestStream(t *testing.T) {
	t.Parallel()
	under := &recorder{}
	s := &stream{Conn: under, slack: time.Second}
	var want strings.Builder
	write := func(n int, c string) {
		p := strings.Repeat(c, n)
		want.WriteString(p)
		if got, err := s.Write([]byte(p)); got != n || err != nil {
			t.Fatalf("wrote %d of %d: %v", got, n, err)
		}
	}
	write(3, "h") // the handshake
	if len(under.writes) != 1 {
		t.Fatal("the handshake was held back")
	}
	s.upgraded = true
	for _, n := range []int{10, 20, streamBytes - 30} {
		write(n, "a")
	}
	if len(under.writes) != 1 {
		t.Fatalf("%d writes before the buffer is full, want none", len(under.writes)-1)
	}
	write(1, "b") // full
	if len(under.writes) != 2 {
		t.Fatalf("%d writes once the buffer is full, want one", len(under.writes)-1)
	}
	write(streamBytes, "c") // too long to be buffered
	write(5, "d")
	lent := s.held
	if err := errors.Join(s.flush(), s.flush()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(under.writes, ""); got != want.String() {
		t.Errorf("%d bytes came through, or in another order; want %d", len(got), want.Len())
	}
	if n := len(under.writes); n != 5 {
		t.Errorf("%d writes, want 5", n)
	}
	if bytes.ContainsAny((*lent)[:cap(*lent)], "abcd") {
		t.Error("a buffer was given back with what was written")
	}
	under.err = errors.New("broken")
	write(1, "e")
	if err := s.flush(); !errors.Is(err, under.err) || s.held != nil {
		t.Errorf("got %v, want the connection's error, and nothing held", err)
	}
}

// A deadline is set when it is sooner, or later by more than the slack: a write
// never has longer than requested.
func TestStreamDeadline(t *testing.T) {
	t.Parallel()
	under := &recorder{}
	s := &stream{Conn: under, upgraded: true, slack: time.Second}
	start := time.Unix(1000, 0)
	want := 0
	for _, step := range []struct {
		at  time.Duration
		set bool
	}{{0, true}, {time.Second, false}, {1100 * time.Millisecond, true}, {time.Second, true}, {time.Second, false}, {500 * time.Millisecond, true}} {
		_ = s.SetWriteDeadline(start.Add(step.at))
		_, _ = s.Write([]byte("x"))
		if err := s.flush(); err != nil {
			t.Fatal(err)
		}
		if step.set {
			want++
		}
		if len(under.deadlines) != want || step.set && !under.deadlines[want-1].Equal(start.Add(step.at)) {
			t.Fatalf("after %s: deadlines %v", step.at, under.deadlines)
		}
	}
}
