// Package spell suggests the intended name for a mistyped command, flag or
// environment variable. Start with [Nearest]; [Strangers] checks an environment.
//
// It does no I/O and holds no state.
package spell

import (
	"flag"
	"regexp"
	"slices"
	"strings"
)

// Nearest returns the one of known that a mistyped word most likely means: the one
// with the fewest letters inserted, left out, exchanged or swapped with their
// neighbour, at most one for each three letters and never more than three; else the
// only one that word is a prefix of. It returns "" if there is no such name.
func Nearest(word string, known []string) string {
	best, least := "", min(3, max(1, len(word)/3))+1
	for _, k := range known {
		if d := distance(word, k); d < least {
			best, least = k, d
		}
	}
	if best != "" || len(word) < 2 {
		return best
	}
	for _, k := range known {
		if strings.HasPrefix(k, word) {
			if best != "" {
				return ""
			}
			best = k
		}
	}
	return best
}

// distance is the optimal string alignment distance of two words, in bytes.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			exchange := last[j-1]
			if a[i-1] != b[j-1] {
				exchange++
			}
			row[j] = min(last[j]+1, row[j-1]+1, exchange)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// Stranger is an environment variable that no program of Conclave knows.
type Stranger struct {
	Name string
	Like string // the variable that may be meant, "" for none
}

// Strangers returns the variables of an environment, as os.Environ returns it, that
// begin with CONCLAVE_ and are neither in [Variables] nor in more, in alphabetical
// order. It skips the variables that Kubernetes sets in every container beside a
// Service called conclave.
func Strangers(environ []string, more ...string) []Stranger {
	known := append(slices.Clone(Variables), more...)
	var list []Stranger
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if value == "" || !strings.HasPrefix(name, "CONCLAVE_") || slices.Contains(known, name) || ofAnotherProgram(name, value) {
			continue
		}
		list = append(list, Stranger{Name: name, Like: Nearest(name, known)})
	}
	slices.SortFunc(list, func(a, b Stranger) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// String describes a variable, and never contains its value.
func (s Stranger) String() string {
	text := "the environment variable " + s.Name + " is unknown and has no effect"
	if s.Like != "" {
		text += "; did you mean " + s.Like + "?"
	}
	return text
}

// aroundUs are the variables of tests, of deploy/haproxy.cfg, and those that Kubernetes
// sets for Services (CONCLAVE_REDIS_SERVICE_PORT, CONCLAVE_PORT_8080_TCP_ADDR).
var aroundUs = regexp.MustCompile(`^CONCLAVE_((TEST|SOAK|BENCH)(_.*)?|NODE_[0-9]+|(.*_)?SERVICE_(HOST|PORT)(_.*)?|(.*_)?PORT_[0-9]+_(TCP|UDP|SCTP)(_.*)?)$`)

// kubernetesURL is the value of a Service's variable that ends in _PORT.
var kubernetesURL = regexp.MustCompile(`^(tcp|udp|sctp)://`)

func ofAnotherProgram(name, value string) bool {
	return aroundUs.MatchString(name) || strings.HasSuffix(name, "_PORT") && kubernetesURL.MatchString(value)
}

// Flag returns the flag of set that was perhaps meant, as typed, if err is the
// error of set's Parse for an unknown flag; else "".
func Flag(err error, set *flag.FlagSet) string {
	name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !ok {
		return ""
	}
	var known []string
	set.VisitAll(func(f *flag.Flag) { known = append(known, f.Name) })
	if like := Nearest(strings.TrimPrefix(name, "-"), known); like != "" {
		return "--" + like
	}
	return ""
}
