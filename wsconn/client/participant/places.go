package participant

import (
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

// Rank says how well a request's signer is known here. The server can write any
// name of a coordinator, so only a verified signature raises a rank.
type Rank string

// The ranks.
const (
	// RankStranger: the request is not signed, or by an identity that was never
	// approved here. All strangers share one account.
	RankStranger Rank = ""
	// RankKnown: it is signed by the identity of an earlier approval.
	RankKnown Rank = "known"
	// RankPinned: it is signed by an identity that was pinned by hand.
	RankPinned Rank = "pinned"
)

// account is the owner of the places that a session takes.
type account struct {
	rank Rank
	user string // the coordinator; empty for strangers
}

func newAccount(rank Rank, coordinator string) account {
	if rank == RankStranger {
		coordinator = ""
	}
	return account{rank, coordinator}
}

// accountOf returns the account of an examined invitation.
func accountOf(inv Invitation) account {
	switch s := inv.Signer; {
	case s == nil || s.First:
		return newAccount(RankStranger, "")
	case s.Pinned:
		return newAccount(RankPinned, inv.Coordinator)
	}
	return newAccount(RankKnown, inv.Coordinator)
}

func (a account) String() string {
	if a.rank == RankStranger {
		return "coordinators that are not known here"
	}
	return a.user
}

const (
	// keptPlaces are those that every pinned coordinator has regardless of others.
	keptPlaces = 4
	// Limit on the open and the waiting sessions of one account, in bytes of the
	// journal.
	pinnedBytes = 16 << 20
	otherBytes  = 4 << 20
)

// shares are the bounds of one account, for a MaxSessions of most: places that it
// may take, invitations that may wait for one, and bytes in both.
func (a account) shares(most int) (places, waiting, bytes int) {
	switch a.rank {
	case RankPinned:
		return max(most/2, 1), 2 * most, pinnedBytes
	case RankKnown:
		return max(most/4, 1), max(most/2, 1), otherBytes
	}
	return max(most/4, 1), most, otherBytes
}

// state is the state of a session here.
type state int

const (
	stateWaiting state = iota // for a place, or for its turn with the approver
	stateAsking               // with the approver
	stateOpen                 // accepted
)

// usage counts the accounts' places. It is computed for each decision: there are
// few sessions, and a count that is not stored cannot be wrong.
type usage struct {
	most   int // MaxSessions
	total  int // places taken
	lower  int // those not taken by pinned coordinators
	asking int
	places map[account]int
	queued map[account]int
	bytes  map[account]int
}

// usage is called with p.mu held.
func (p *participant) usage() *usage {
	u := &usage{most: p.cfg.MaxSessions, places: map[account]int{}, queued: map[account]int{}, bytes: map[account]int{}}
	for _, t := range p.sessions {
		u.bytes[t.account] += t.size
		if t.state == stateWaiting {
			u.queued[t.account]++
			continue
		}
		u.take(t)
	}
	return u
}

// take counts the place of a session that is with the approver or open.
func (u *usage) take(t *task) {
	u.total++
	u.places[t.account]++
	if t.account.rank != RankPinned {
		u.lower++
	}
	if t.state == stateAsking {
		u.asking++
	}
}

// free reports whether an account may have another place.
func (u *usage) free(a account) bool {
	places, _, _ := a.shares(u.most)
	own := u.places[a]
	switch {
	case a.rank == RankPinned && own < min(keptPlaces, u.most):
		return true
	case own >= places || u.total >= u.most:
		return false
	}
	return a.rank == RankPinned || u.lower < max(u.most/2, 1)
}

// refuses returns why an invitation may not even wait, "" if it may.
func (u *usage) refuses(a account, inv Invitation) string {
	_, waiting, bytes := a.shares(u.most)
	if u.queued[a] >= waiting || u.bytes[a]+inv.size() > bytes {
		return fmt.Sprintf("too many requests of %s wait here", a)
	}
	return ""
}

// size is roughly an invitation's size as JSON, and at most twice its size in
// memory.
func (inv *Invitation) size() int {
	n := jsonSize(inv.Data) + len(inv.Digest) + len(inv.SignedRequest) + 500
	for _, user := range inv.Participants {
		n += jsonSize(user) + 16
	}
	if r := inv.Reshare; r != nil {
		for _, m := range slices.Concat(r.From.Members, r.To.Members) {
			n += jsonSize(m.User) + len(m.Identity) + 200
		}
	}
	return n
}

// jsonSize is at least what encoding/json makes of s.
func jsonSize(s string) int {
	n := len(s)
	if !utf8.ValidString(s) {
		return 6 * n
	}
	for i := range len(s) {
		switch ch := s[i]; {
		case ch < ' ' || ch == '<' || ch == '>' || ch == '&':
			n += 5
		case ch == '"' || ch == '\\' || ch == 0xe2: // it begins the two line separators that are escaped
			n += 3
		}
	}
	return n
}

// next takes the waiting session whose turn it is, or returns nil: pinned
// coordinators before known ones before strangers, within a rank the one with the
// fewest places, then by arrival. p.mu is held.
func (p *participant) next() *task {
	if len(p.waiting) == 0 {
		return nil
	}
	u := p.usage()
	if u.asking >= p.cfg.AskAtOnce {
		return nil
	}
	best := -1
	for i, t := range p.waiting {
		if u.free(t.account) && (best < 0 || before(u, t.account, p.waiting[best].account)) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	t := p.waiting[best]
	p.waiting = slices.Delete(p.waiting, best, best+1)
	t.state = stateAsking
	return t
}

// before reports whether the first account precedes the second one.
func before(u *usage, a, b account) bool {
	order := []Rank{RankPinned, RankKnown, RankStranger}
	if a.rank != b.rank {
		return slices.Index(order, a.rank) < slices.Index(order, b.rank)
	}
	return u.places[a] < u.places[b]
}

// pump puts the invitations whose turn it is to the approver.
func (p *participant) pump() {
	for {
		p.mu.Lock()
		t := p.next()
		p.mu.Unlock()
		if t == nil {
			return
		}
		p.tasks.Go(t.ask)
	}
}

// keygenWindow is the period in which KeygensPerHour is counted.
const keygenWindow = time.Hour

// asked is a requested keygen.
type asked struct {
	session string
	at      time.Time
}

// countKeygen records that a keygen is about to go to the approver, or reports
// false if its coordinator has used up its limit. Each burns a set of
// pre-parameters, or leaves a share. p.mu is held.
func (p *participant) countKeygen(a account, sessionID string, now time.Time) bool {
	most := p.cfg.KeygensPerHour
	if most < 0 {
		return true
	}
	recent := slices.DeleteFunc(p.keygens[a], func(k asked) bool { return now.Sub(k.at) >= keygenWindow })
	if len(recent) >= most {
		p.keygens[a] = recent
		return false
	}
	p.keygens[a] = append(recent, asked{sessionID, now})
	return true
}

// uncountKeygen undoes countKeygen for a declined keygen. p.mu is held.
func (p *participant) uncountKeygen(a account, sessionID string) {
	list := slices.DeleteFunc(p.keygens[a], func(k asked) bool { return k.session == sessionID })
	if p.keygens[a] = list; len(list) == 0 {
		delete(p.keygens, a)
	}
}
