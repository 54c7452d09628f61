package audit

import (
	"errors"
	"fmt"
)

// Errors of [Verifier.End]; Add returns a [*BreakError].
var (
	// ErrEmpty: there were no entries, so that deletion cannot be ruled out.
	ErrEmpty = errors.New("no entries: missing entries cannot be detected")
	// ErrAnchor: the entries form a chain without the noted head.
	ErrAnchor = errors.New("the anchor is not in this chain: it was truncated before that entry, or rewritten")
)

// BreakError says where a chain is broken.
type BreakError struct {
	Place  int    // position among the entries given, from 1
	N      uint64 // the entry's own number; 0 if it has none
	After  uint64 // the number of the last valid entry; 0 if there was none
	Reason string
}

// Error names the entry.
func (e *BreakError) Error() string {
	which := fmt.Sprintf("entry %d", e.N)
	if e.N == 0 {
		which = fmt.Sprintf("what stands after entry %d", e.After)
	}
	return fmt.Sprintf("the chain breaks at %s (place %d): %s", which, e.Place, e.Reason)
}

// Verifier checks a sequence of entries. It recomputes each hash.
type Verifier struct {
	anchor string
	found  bool
	place  int
	head   Head
}

// NewVerifier returns a Verifier. The anchor is the hash of a head that was noted
// elsewhere, or empty. With an anchor the first entry may be its successor, or the
// anchor must be the hash of an entry; without, the first entry must be number 1.
func NewVerifier(anchor string) (*Verifier, error) {
	if anchor != "" && !validHash(anchor) {
		return nil, errors.New("an anchor is the 64 hex digits of an entry's hash")
	}
	return &Verifier{anchor: anchor, found: anchor == ""}, nil
}

// Add takes the next entry. After an error, which is a *BreakError, the Verifier must
// not be used.
func (v *Verifier) Add(f Fields) error {
	v.place++
	e, err := Parse(f)
	if err != nil {
		return &BreakError{Place: v.place, After: v.head.N, Reason: err.Error()}
	}
	broken := func(format string, args ...any) error {
		return &BreakError{Place: v.place, N: e.N, After: v.head.N, Reason: fmt.Sprintf(format, args...)}
	}
	if e.sum() != e.Hash {
		return broken("its content does not match its hash")
	}
	switch {
	case v.place == 1 && (e.N == 1) != (e.Prev == Genesis):
		return broken("only the first entry may have no predecessor")
	case v.place == 1 && e.N != 1 && v.anchor == "":
		return broken("entries before it are not here: give the hash of entry %d as the anchor", e.N-1)
	case v.place > 1 && e.N == v.head.N+2:
		return broken("entry %d is missing", v.head.N+1)
	case v.place > 1 && e.N > v.head.N+1:
		return broken("entries %d to %d are missing", v.head.N+1, e.N-1)
	case v.place > 1 && e.N != v.head.N+1:
		return broken("it stands after entry %d", v.head.N)
	case v.place > 1 && e.Prev != v.head.Hash:
		return broken("it follows another entry %d than the one in this chain", v.head.N)
	}
	v.found = v.found || e.Prev == v.anchor || e.Hash == v.anchor
	v.head = Head{N: e.N, Hash: e.Hash}
	return nil
}

// AddLine is Add for the next line of an exported file, without its line break.
func (v *Verifier) AddLine(line []byte) error {
	f, err := ParseLine(line)
	if err != nil {
		v.place++
		return &BreakError{Place: v.place, After: v.head.N, Reason: err.Error()}
	}
	return v.Add(f)
}

// Entries returns how many were added.
func (v *Verifier) Entries() int { return v.place }

// End returns the head of the entries added, to be noted elsewhere. ErrEmpty,
// ErrAnchor.
func (v *Verifier) End() (Head, error) {
	switch {
	case v.place == 0:
		return Head{}, ErrEmpty
	case !v.found:
		return v.head, ErrAnchor
	}
	return v.head, nil
}
