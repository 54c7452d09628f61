package e2e_test

import (
	"fmt"
	"maps"
	"slices"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// breach is a documented promise that a history shows broken.
type breach struct {
	class string // lost, duplicated, contradictory, stuck, refused or deaf
	rule  string
	text  string
}

func (b breach) String() string { return b.class + ": " + b.rule + ": " + b.text }

// The classes of breach.
const (
	lost          = "lost"
	duplicated    = "duplicated"
	contradictory = "contradictory"
	stuck         = "stuck"
	refused       = "refused"
	deaf          = "deaf" // found while sockets are open, by arena.settle
)

// check judges a history. It is a pure function: each rule sees the same indexed
// history and does not know how it was produced.
func check(h *history) []breach {
	v := &verdict{history: h, asked: map[string]*oneRequest{}, told: map[string]map[string][]event{}}
	for _, u := range h.users {
		v.index(u)
	}
	for _, u := range h.users {
		if !u.discreet {
			v.checkMail(u)
		}
		v.checkAnswers(u)
	}
	v.checkOutcomes()
	v.checkSessions()
	v.checkInvited()
	v.checkShares()
	for _, text := range h.stored.leftovers {
		v.breach(stuck, "something is left behind", "%s", text)
	}
	return v.breaches
}

// verdict is one check in progress.
type verdict struct {
	*history
	asked    map[string]*oneRequest        // by request id, which no two users share
	told     map[string]map[string][]event // by session and user: the ends of it that the user was told
	breaches []breach
}

// oneRequest is a message that must take effect once.
type oneRequest struct {
	user    string
	event   event
	answers []event
}

func (v *verdict) breach(class, rule, format string, args ...any) {
	v.breaches = append(v.breaches, breach{class, rule, fmt.Sprintf(format, args...)})
}

func (v *verdict) index(u *userHistory) {
	for _, e := range u.events {
		switch e.what {
		case asked:
			v.asked[e.request] = &oneRequest{user: u.user, event: e}
		case answered, reported:
			if r := v.asked[e.request]; r != nil {
				r.answers = append(r.answers, e)
			}
		}
		if e.what != asked && (e.isOutcome() || e.kind == wire.TypeSessionEnded) {
			if v.told[e.session] == nil {
				v.told[e.session] = map[string][]event{}
			}
			v.told[e.session][u.user] = append(v.told[e.session][u.user], e)
		}
	}
}

// checkMail checks a user's received messages against the mailbox's promises: each socket
// continues exactly after the client's acknowledged seq, without repeats, and with gaps
// only in messages that waited for the socket: a session's messages are removed with its
// end, which follows the gap; each number stands for one message, and each message has one
// number. A gap of generationGap or more is a Redis that began anew; messages removed just
// before it cannot be counted.
//
// A client that does not acknowledge claims to have nothing, so a node that died
// before it recorded its writes sends them again: under the old numbers, which is
// allowed, and only those.
func (v *verdict) checkMail(u *userHistory) {
	bySeq := map[uint64]event{}
	byContent := map[string]uint64{}
	newestOn, waited := map[int]uint64{}, map[int]uint64{}
	var newest, first, newestEnd, removed uint64
	begunAnew := false
	for _, e := range u.events {
		if e.what == mailed && (e.isOutcome() || e.kind == wire.TypeSessionEnded) {
			newestEnd = max(newestEnd, e.seq)
		}
	}
	for _, e := range u.events {
		if e.what == registered {
			newestOn[e.conn] = e.seq
			continue
		}
		if e.what == confirmed {
			waited[e.conn] = e.seq
			continue
		}
		if e.what != mailed {
			continue
		}
		on := newestOn[e.conn]
		switch {
		case e.seq <= on:
			v.breach(duplicated, "a socket repeated or went back", "%s: after seq %d came %s", u.user, on, e)
		case on == 0 && newest == 0: // a mailbox may begin anywhere
			first = e.seq
		case on == 0 && e.seq < first:
			v.breach(duplicated, "a socket went back", "%s: the mailbox began with %d, then came %s", u.user, first, e)
		case e.seq >= max(on, newest)+generationGap:
			begunAnew = true
		case (on == 0 && e.seq > newest+1 || on > 0 && e.seq > on+1 && !v.had(bySeq, on+1, e.seq)) && e.seq <= newestEnd && (v.waits || e.seq <= waited[e.conn]):
			for seq := max(on, newest) + 1; seq < e.seq; seq++ {
				removed++
			}
		case on == 0 && e.seq > newest+1, on > 0 && e.seq > on+1 && !v.had(bySeq, on+1, e.seq):
			v.breach(lost, "a socket left messages out", "%s: after seq %d came %s", u.user, max(on, newest), e)
		}
		newestOn[e.conn] = max(on, e.seq)
		newest = max(newest, e.seq)
		if old, ok := bySeq[e.seq]; ok {
			if old.digest != e.digest {
				v.breach(contradictory, "one seq stood for two messages", "%s: %s, then %s", u.user, old, e)
			}
			continue
		}
		bySeq[e.seq] = e
		content := fmt.Sprintf("%s/%s/%d/%x", e.session, e.kind, e.attempt, e.digest)
		if old, ok := byContent[content]; ok {
			v.breach(duplicated, "one message came under two seqs", "%s: %d and %s", u.user, old, e)
		}
		byContent[content] = e.seq
	}
	box := v.stored.mailboxes[u.user]
	if box.newest > newest {
		v.breach(lost, "mail was never delivered", "%s: seq %d is in Redis, %d is the newest received", u.user, box.newest, newest)
	}
	if n := uint64(len(bySeq)); box.appended > n+removed && !begunAnew {
		v.breach(lost, "mail was never delivered", "%s: %d messages were appended, %d received, %d removed", u.user, box.appended, n, removed)
	}
}

// generationGap is the least distance between the numbers that a mailbox gives on
// one Redis and on the next.
const generationGap = 65536

// had reports whether the user had every seq from one up to below another, except
// those between generations.
func (v *verdict) had(bySeq map[uint64]event, from, to uint64) bool {
	if to-from >= generationGap {
		var seqs []uint64
		for seq := range bySeq {
			if seq >= from && seq < to {
				seqs = append(seqs, seq)
			}
		}
		slices.Sort(seqs)
		at := from - 1
		for _, seq := range append(seqs, to) {
			if seq != at+1 && seq < at+generationGap {
				return false
			}
			at = seq
		}
		return true
	}
	for seq := from; seq < to; seq++ {
		if _, ok := bySeq[seq]; !ok {
			return false
		}
	}
	return true
}

// checkAnswers checks that every request was answered, and alike each time.
func (v *verdict) checkAnswers(u *userHistory) {
	for _, id := range slices.Sorted(maps.Keys(v.asked)) {
		r := v.asked[id]
		if r.user != u.user {
			continue
		}
		if len(r.answers) == 0 {
			v.breach(stuck, "a message was never answered", "%s: %s", u.user, r.event)
		}
		session := ""
		for _, a := range r.answers {
			if a.code != "" && !mayRefuse(r.event.kind, a.code) {
				v.breach(refused, "a sound message was refused", "%s: %s with %s", u.user, r.event, a.code)
			}
			if session != "" && a.session != "" && a.session != session {
				v.breach(duplicated, "one request began two sessions", "%s: %s and %s by %s", u.user, session, a.session, r.event)
			}
			if a.session != "" {
				session = a.session
			}
		}
	}
}

// mayRefuse returns the refusals that a correct client can meet: its message may be
// late.
func mayRefuse(kind wire.Type, code wire.Code) bool {
	switch kind {
	case wire.TypeKeygenRequest, wire.TypeSignRequest:
		return false
	case wire.TypeTSSMessage: // of an attempt given up while the message was in flight; or of a flood
		return code == wire.CodeSessionEnded || code == wire.CodeForbidden || code == wire.CodeBadRequest || code == wire.CodeQuotaExceeded
	}
	return code == wire.CodeSessionEnded
}

// checkOutcomes checks that each accepted request had one end, in time, the same in
// Redis and for everyone who was told.
func (v *verdict) checkOutcomes() {
	for _, id := range slices.Sorted(maps.Keys(v.asked)) {
		r := v.asked[id]
		if !r.event.isRequest() {
			continue
		}
		accepted, ok := r.accepted()
		if !ok {
			continue // checkAnswers has reported it
		}
		s, ok := v.stored.sessions[accepted.session]
		if !ok {
			v.breach(lost, "an accepted session is gone", "%s: %s", r.user, r.event)
			continue
		}
		if s.coordinator != r.user || s.request != id {
			v.breach(contradictory, "a session is another request's", "%s: %s is %q of %s", id, accepted.session, s.request, s.coordinator)
		}
		told := v.told[accepted.session][r.user]
		mail := 0
		for _, e := range told {
			if e.what != answered && e.isOutcome() {
				mail++
				if late := e.at.Sub(accepted.at); late > v.within {
					v.breach(stuck, "an outcome came late", "%s: %s after %s", r.user, e, late)
				}
			}
			if e.value != "" && r.event.value != "" && e.value != r.event.value {
				v.breach(contradictory, "an outcome is not what was asked for", "%s: %s", r.user, e)
			}
		}
		if mail == 0 {
			v.breach(lost, "an outcome was not told", "%s: %s, session %s is %s", r.user, r.event, accepted.session, s.phase)
		}
	}
}

// accepted returns the first answer that names a session.
func (r *oneRequest) accepted() (event, bool) {
	for _, a := range r.answers {
		if a.code == "" && a.session != "" {
			return a, true
		}
	}
	return event{}, false
}

// checkSessions checks every session against the messages about it.
func (v *verdict) checkSessions() {
	byRequest := map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(v.stored.sessions)) {
		s := v.stored.sessions[id]
		if s.status() == "" {
			v.breach(stuck, "a session did not end", "%s is %s", id, s.phase)
		}
		if r := v.asked[s.request]; r == nil || r.user != s.coordinator {
			v.breach(duplicated, "a session began that nobody asked for", "%s of %s, request %q", id, s.coordinator, s.request)
		} else if other, ok := byRequest[s.request]; ok {
			v.breach(duplicated, "one request began two sessions", "%s and %s by %q", other, id, s.request)
		}
		byRequest[s.request] = id
		for user, told := range v.told[id] {
			v.checkTold(id, s, user, told)
		}
		for _, user := range s.invited {
			ends := slices.ContainsFunc(v.told[id][user], func(e event) bool { return e.kind == wire.TypeSessionEnded })
			if !ends && v.knows(user) && s.status() != "" {
				v.breach(lost, "an end was not told", "%s was not told that %s is %s", user, id, s.phase)
			}
		}
	}
	for id := range v.told {
		if _, ok := v.stored.sessions[id]; !ok {
			v.breach(lost, "a session is gone whose end was told", "%s", id)
		}
	}
}

func (v *verdict) knows(user string) bool {
	return slices.ContainsFunc(v.users, func(u *userHistory) bool { return u.user == user })
}

// checkInvited checks that an answer to an invitation whose sender was told that it
// had taken effect is in the session: otherwise the session may end because an
// answer that was given is missing.
func (v *verdict) checkInvited() {
	for _, id := range slices.Sorted(maps.Keys(v.asked)) {
		r := v.asked[id]
		e := r.event
		accepted, ok := r.accepted()
		if !ok || e.kind != wire.TypeKeygenResponse && e.kind != wire.TypeSignResponse {
			continue
		}
		if s := v.stored.sessions[accepted.session]; s.answers[e.part] != e.value {
			v.breach(lost, "an acknowledged answer is gone", "%s: %s, the session has %q", r.user, e, s.answers[e.part])
		}
	}
}

// checkTold checks the session ends that one user was told against Redis.
func (v *verdict) checkTold(id string, s storedSession, user string, told []event) {
	seen := map[string]bool{}
	for _, e := range told {
		if e.status != s.status() {
			v.breach(contradictory, "a user was told another end", "%s was told %s of %s, Redis says %s", user, e.status, id, s.phase)
		}
		if e.isOutcome() && e.status == wire.StatusSuccess && e.value != s.value {
			v.breach(contradictory, "a user was told another result", "%s: %s of %s, Redis has %s", user, e.value, id, s.value)
		}
		what := fmt.Sprint(e.kind, e.seq)
		if e.what == answered || seen[what] {
			continue // a direct reply to a request said again, or the same number again
		}
		seen[what] = true
		if seen[string(e.kind)] {
			v.breach(duplicated, "an end was told twice", "%s: %s", user, e)
		}
		seen[string(e.kind)] = true
	}
}

// checkShares checks that acknowledged shares of a key that can sign exist, and that
// their owners get the same ones back.
func (v *verdict) checkShares() {
	sent := map[string]string{} // by key, session and part: as acknowledged
	for _, id := range slices.Sorted(maps.Keys(v.asked)) {
		r := v.asked[id]
		if _, ok := r.accepted(); !ok || r.event.kind != wire.TypeKeygenComplete {
			continue
		}
		e := r.event
		sent[fmt.Sprintf("%s %d", e.key, e.part)] = e.value
		k := v.stored.keys[e.key]
		if k.session == e.session && k.status == "active" && k.shares[e.part] != e.value {
			v.breach(lost, "an acknowledged share is gone", "part %d of key %s", e.part, e.key)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(v.stored.keys)) {
		k := v.stored.keys[id]
		switch {
		case k.status == "active" && len(k.shares) != k.parts:
			v.breach(lost, "a key that can sign lacks shares", "key %s has %d of %d", id, len(k.shares), k.parts)
		case k.status == "generating":
			v.breach(stuck, "a key is being generated for ever", "key %s", id)
		case k.status == "active" && v.stored.sessions[k.session].phase != "completed":
			v.breach(contradictory, "a key can sign whose keygen did not complete", "key %s", id)
		}
		for _, session := range k.open {
			v.breach(stuck, "a key remembers an ended signing as open", "key %s, session %s", id, session)
		}
	}
	for _, u := range v.users {
		for _, e := range u.events {
			want, ok := sent[fmt.Sprintf("%s %d", e.key, e.part)]
			if e.what == mailed && e.kind == wire.TypeSignParams && ok && e.value != want {
				v.breach(contradictory, "a party got another share back", "%s: %s", u.user, e)
			}
		}
	}
}
