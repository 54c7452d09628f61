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
	epoch  *Epoch // the current one
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
	if err := c.verify(l); err != nil {
		return nil, fmt.Errorf("certificate %d: %w", c.Number(), err)
	}
	return &Lineage{before: l, head: c, epoch: c.Epoch}, nil
}

// Epoch is the current epoch: the last one of the lineage.
func (l *Lineage) Epoch() *Epoch { return l.epoch }

// Head is the last certificate.
func (l *Lineage) Head() *Certificate { return l.head }

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
// epoch does; of two with one number, the one whose certificate has the lower hash.
func (l *Lineage) compare(m *Lineage) int {
	a, b := l.epoch.Hash(), m.epoch.Hash()
	return cmp.Or(cmp.Compare(l.epoch.Number, m.epoch.Number), bytes.Compare(b[:], a[:]))
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
		switch link := c.Epoch.Parent; {
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
