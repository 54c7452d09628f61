// Package sample decides how much of this module's tests runs.
//
// `go test ./...` is meant to stay below four minutes on two cores: every package,
// every curve, every kind of fault and attack, and of the longer sets a sample, at
// least one row of each. CONCLAVE_FULL=1 runs them whole, as .ci/run does: every
// threshold on secp256k1, every attack and mutation with a real key generation,
// long fault schedules, crowds of ten thousand, and one in four tests of real nodes
// on miniredis as well as on redis-server.
//
// A test asks in one line:
//
//	for _, row := range sample.Of(2, rows) { … }      // two of them, others the next time
//	for range sample.Or(4, 16) { … }                  // 4, or 16 in the full set
//	if !sample.Full() && total > 2 { t.Skip(sample.Reason) }
//
// Tests that are long and of one kind take turns:
//
//	if !sample.Turn("topologies", 0, 6) { t.Skip(sample.Reason) } // the first of six
//
// -short is less than the sample: it omits tests that take more than a few seconds.
//
// The package is for tests only; no program of this module links it. It starts no
// goroutines, and its functions are safe for concurrent use.
package sample

import (
	"flag"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
)

// Idling is for the TestMain of a package whose parallel tests wait more than they
// compute: four per core run at once instead of one, two with the race detector,
// unless -parallel sets the number.
func Idling() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(PerCore*runtime.GOMAXPROCS(0))); err != nil {
		panic(err) // not in a test binary
	}
}

// Reason is the skip message of a test that is in the full set only.
const Reason = "in the full set only: set CONCLAVE_FULL=1"

// Full reports whether the full sets run: CONCLAVE_FULL=1.
func Full() bool { return os.Getenv("CONCLAVE_FULL") == "1" }

// Or returns some in the sample and all in the full set.
func Or[T any](some, all T) T {
	if Full() {
		return all
	}
	return some
}

// Of returns all rows in the full set, in their order; in the sample n of them (at
// least 1, at most all), consecutive from a random row, so that every row is chosen
// in time. CONCLAVE_FULL=1 with -run and the row's name repeats one.
func Of[T any](n int, rows []T) []T {
	n = max(n, 1)
	if Full() || n >= len(rows) {
		return rows
	}
	first := rand.IntN(len(rows))
	some := make([]T, n)
	for i := range some {
		some[i] = rows[(first+i)%len(rows)]
	}
	return some
}

// turns holds the row of each group of [Turn] that runs in this process.
var turns sync.Map

// Turn reports whether the row of that number, from 0, of a group of rows runs in
// this process: one of them in the sample, chosen at random, and all in the full
// set.
func Turn(group string, row, rows int) bool {
	chosen, _ := turns.LoadOrStore(group, rand.IntN(rows))
	return Full() || chosen == row
}
