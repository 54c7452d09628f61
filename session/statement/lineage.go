package statement

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Lineage is a verified chain of a key's certificates, each the parent of the next. It
// is immutable; Next returns another one.
type Lineage struct {
	before *Lineage // without head
	head   *Certificate
	state  state
}

// state is what the certificates of a lineage say of the key.
type state struct {
	current      *Certificate // of the current epoch
	coordinators []string     // sorted, not changed in place
	archived     bool
	destroyed    bool
}

// first is the state of a key with one certificate: its coordinator is who requested it.
func first(c *Certificate) state {
	return state{current: c, coordinators: []string{c.Epoch.Coordinator}}
}

// VerifyLineage verifies a whole chain, from the first epoch on and without gaps. Who
// the members of the first epoch are, the caller must know.
func VerifyLineage(list []*Certificate) (*Lineage, error) {
	if len(list) == 0 {
		return nil, errors.New("verify lineage: there is no certificate")
	}
	var l *Lineage
	for _, c := range list {
		next, err := l.Next(c)
		if err != nil {
			return nil, fmt.Errorf("verify lineage: %w", err)
		}
		l = next
	}
	return l, nil
}

// Next verifies a certificate that follows the last one and returns the lineage with
// it. The first of a key follows a nil lineage.
func (l *Lineage) Next(c *Certificate) (*Lineage, error) {
	next, err := c.verify(l)
	if err != nil {
		return nil, fmt.Errorf("certificate %d: %w", c.Number(), err)
	}
	return &Lineage{before: l, head: c, state: next}, nil
}

// Epoch is the current epoch: the last one of the lineage.
func (l *Lineage) Epoch() *Epoch { return l.state.current.Epoch }

// Current is the certificate of the current epoch.
func (l *Lineage) Current() *Certificate { return l.state.current }

// Head is the last certificate: that of the current epoch, or of an entry after it.
func (l *Lineage) Head() *Certificate { return l.head }

// Archived reports whether the key signs no more until it is unarchived.
func (l *Lineage) Archived() bool { return l.state.archived }

// Destroyed reports whether the key is destroyed, for ever.
func (l *Lineage) Destroyed() bool { return l.state.destroyed }

// Coordinators returns the user ids that may request something of the key, sorted: that
// of the first epoch, and those that entries have added and not removed.
func (l *Lineage) Coordinators() []string { return slices.Clone(l.state.coordinators) }

// Certificates returns the chain, beginning with the first.
func (l *Lineage) Certificates() []*Certificate {
	var list []*Certificate
	for ; l != nil; l = l.before {
		list = append(list, l.head)
	}
	slices.Reverse(list)
	return list
}

// compare orders two lineages of one key: the one that counts is greater. The higher
// epoch does; of two with one number, the one whose certificate has the lower hash. With
// one current epoch, entries decide in the same way: they never lead to another epoch.
func (l *Lineage) compare(m *Lineage) int {
	return cmp.Or(l.state.current.compare(m.state.current), l.head.compare(m.head))
}

func (c *Certificate) compare(d *Certificate) int {
	a, b := c.Hash(), d.Hash()
	return cmp.Or(cmp.Compare(c.Number(), d.Number()), bytes.Compare(b[:], a[:]))
}

// Head verifies certificates of one key in any order, among which there may be several
// that follow the same parent, and returns the lineage that counts: that of the highest
// epoch, and of two epochs with one number that with the lower hash. So everybody with
// the same certificates comes to the same epoch, and with more of them never to a lower
// one. Every certificate must be valid and follow another one of the list.
func Head(list []*Certificate) (*Lineage, error) {
	ascending := slices.Clone(list)
	slices.SortStableFunc(ascending, func(a, b *Certificate) int { return cmp.Compare(a.Number(), b.Number()) })
	known := map[Hash]*Lineage{}
	var first *Certificate
	var best *Lineage
	for _, c := range ascending {
		var parent *Lineage
		switch link := c.Parent(); {
		case link == nil && first != nil && first.Hash() != c.Hash():
			return nil, errors.New("verify lineage: there are two first certificates")
		case link == nil:
			first = c
		default:
			if parent = known[link.Hash]; parent == nil {
				return nil, fmt.Errorf("verify lineage: certificate %d follows %d with hash %s, which is not there", c.Number(), link.Number, link.Hash)
			}
		}
		l, err := parent.Next(c)
		if err != nil {
			return nil, fmt.Errorf("verify lineage: %w", err)
		}
		if hash := c.Hash(); known[hash] == nil {
			known[hash] = l
		}
		if best == nil || l.compare(best) > 0 {
			best = l
		}
	}
	if best == nil {
		return nil, errors.New("verify lineage: there is no certificate")
	}
	return best, nil
}
