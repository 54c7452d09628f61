package sample_test

import (
	"flag"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
)

func TestOf(t *testing.T) {
	rows := []int{0, 1, 2, 3, 4}
	t.Setenv("CONCLAVE_FULL", "")
	seen := map[int]bool{}
	for range 1000 {
		some := sample.Of(2, rows)
		if len(some) != 2 || some[1] != (some[0]+1)%len(rows) {
			t.Fatalf("got %v, want two neighbours of %v", some, rows)
		}
		seen[some[0]] = true
	}
	if len(seen) != len(rows) {
		t.Errorf("of %v only %v have had their turn", rows, seen)
	}
	if some := sample.Of(0, rows); len(some) != 1 {
		t.Errorf("of none: got %v, want one row", some)
	}
	for _, n := range []int{5, 6} {
		if all := sample.Of(n, rows); !slices.Equal(all, rows) {
			t.Errorf("of %d: got %v, want %v", n, all, rows)
		}
	}
	if none := sample.Of(1, []int{}); len(none) != 0 {
		t.Errorf("of no rows: got %v", none)
	}
	if sample.Full() || sample.Or("some", "all") != "some" {
		t.Error("the full set runs unasked")
	}

	turns := 0
	for row := range 5 {
		turn := sample.Turn("test", row, 5)
		if turn {
			turns++
		}
		if sample.Turn("test", row, 5) != turn {
			t.Error("a turn changes")
		}
	}
	if turns != 1 {
		t.Errorf("%d of 5 rows have their turn, want 1", turns)
	}

	t.Setenv("CONCLAVE_FULL", "1")
	if !sample.Turn("test", 0, 2) || !sample.Turn("test", 1, 2) {
		t.Error("in the full set not every row has its turn")
	}
	if all := sample.Of(2, rows); !slices.Equal(all, rows) || !sample.Full() || sample.Or("some", "all") != "all" {
		t.Errorf("in the full set: got %v, want %v", all, rows)
	}
}

func TestIdling(t *testing.T) {
	parallel := flag.Lookup("test.parallel")
	before := parallel.Value.String()
	t.Cleanup(func() { _ = parallel.Value.Set(before) })
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f == parallel })
	sample.Idling()
	want := strconv.Itoa(sample.PerCore * runtime.GOMAXPROCS(0))
	if given {
		want = before
	}
	if got := parallel.Value.String(); got != want {
		t.Errorf("%s tests at one time, want %s", got, want)
	}
}
