package party

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/conclave-mpc/conclave/session/internal/tss"
	"github.com/conclave-mpc/conclave/session/statement"
)

// engine is the run's goroutine and the only one that uses tss-lib's party. It ends
// with the run.
func (r *Run) engine() {
	defer close(r.done)
	defer close(r.out)
	defer r.forget()
	if !r.step(0, func() (bool, *tss.Error) { return true, r.party.Start() }) {
		return
	}
	for {
		in, ok := r.next()
		if !ok || !r.take(in) {
			return
		}
	}
}

func (r *Run) next() (inbound, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.queue) == 0 && !r.ended {
		r.arrived.Wait()
	}
	if r.ended {
		return inbound{}, false
	}
	in := r.queue[0]
	r.queue = r.queue[1:]
	return in, true
}

// stage is the state of one round.
type stage struct {
	content  []inbound // for tss-lib, in order of arrival
	guarded  int       // how many of content have passed the guard
	echoed   bool      // whether the own echo was sent
	echoes   []inbound
	compared int // how many of echoes agree with the own broadcasts
}

// take stores a message under its round and advances the run as far as possible. Each
// message passes the guard once the earlier rounds are complete. When a round's
// broadcasts are complete they are echoed, and when all echoes have arrived and agree
// the whole round goes to tss-lib, which does nothing before it has all of a round
// anyway. It reports whether the run goes on.
func (r *Run) take(in inbound) bool {
	s := r.stages[in.round.Number]
	if s == nil {
		s = &stage{}
		r.stages[in.round.Number] = s
	}
	if in.round.Echo() {
		s.echoes = append(s.echoes, in)
	} else {
		s.content = append(s.content, in)
	}
	for s := r.stages[r.current]; s != nil; s = r.stages[r.current] {
		complete, err := r.ready(s)
		if err != nil {
			r.end(err)
			return false
		}
		if !complete {
			return true
		}
		for _, in := range s.content {
			if !r.release(in) {
				return false
			}
		}
		delete(r.stages, r.current)
		r.current = r.withContent(r.current + 1)
	}
	return true
}

// withContent returns the first round from number on in which this party gets messages.
// A party of a reshare gets none in some.
func (r *Run) withContent(number int) int {
	for number <= r.lastRound() && r.contentOf(number) == 0 {
		number++
	}
	return number
}

// echoOf returns the echo of a round that this party sends and gets, nil if none.
func (r *Run) echoOf(number int) *round {
	rd := roundByCode(r.envelope.rounds, statement.EchoCode|byte(number))
	if rd == nil || !rd.SentTo(r.run.Side(r.self)) {
		return nil
	}
	return rd
}

// ready checks new messages of the current round and reports whether the round is
// complete and verified.
func (r *Run) ready(s *stage) (bool, error) {
	for ; s.guarded < len(s.content); s.guarded++ {
		in := &s.content[s.guarded]
		if refusal := r.guard.Check(in.round.Name, in.from, in.msg.Content()); refusal != nil {
			return false, r.refused(in, refusal)
		}
	}
	whole := len(s.content) == r.contentOf(r.current)
	echo := r.echoOf(r.current)
	if echo == nil || !s.hasAll(r.echoed(r.current, r.self)) {
		return whole && echo == nil, nil
	}
	if !s.echoed {
		s.echoed = true
		if err := r.sendEcho(echo, s); err != nil {
			return false, err
		}
	}
	for ; s.compared < len(s.echoes); s.compared++ {
		if err := r.compare(&s.echoes[s.compared], s); err != nil {
			return false, err
		}
	}
	return whole && len(s.echoes) == r.envelope.senders(echo), nil
}

// refused turns the guard's refusal of a message into the run's error.
func (r *Run) refused(in *inbound, f *tss.Refusal) *Error {
	e := &Error{Reason: fmt.Sprintf("%s: the guard refuses it: %s", in.round.Name, f.Rule)}
	if len(f.Between) == 0 {
		e.Culprits = []int{in.from}
	} else {
		e.Reason += fmt.Sprintf(" (parts %v, of whom at least one is at fault)", f.Between)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.first[slot{in.from, in.round.Code}]
	e.Evidence = []Message{m.clone()}
	return e
}

// release gives one message to tss-lib. Every message passes here, once and in the
// engine goroutine, after the guard and the echo. It reports whether the run goes on.
func (r *Run) release(in inbound) bool {
	r.mu.Lock()
	if r.ended {
		r.mu.Unlock()
		return false
	}
	before := r.currentRound()
	r.handed[in.round.Number]++
	advances := r.currentRound() != before
	r.mu.Unlock()

	// If a step only stores, any failure is the sender's fault. A step that also
	// computes the next round uses all parties' messages, and if that panics the last
	// sender is no more suspect than the others.
	suspect := in.from
	if advances && len(r.envelope.peers) > 1 {
		suspect = 0
	}
	return r.step(suspect, func() (bool, *tss.Error) { return r.party.Update(in.msg) })
}

// step runs tss-lib once, sends its messages and takes the result if there is one.
// Suspect is the party to blame, or 0, if tss-lib itself names no culprit. It
// reports whether the run goes on.
func (r *Run) step(suspect int, do func() (bool, *tss.Error)) bool {
	if err := r.guarded(suspect, do); err != nil {
		r.end(err)
		return false
	}
	if err := r.flush(); err != nil {
		r.end(&Error{Reason: "send: " + err.Error(), Err: err})
		return false
	}
	res, err := r.takeResult()
	switch {
	case err != nil:
		r.end(&Error{Reason: err.Error(), Culprits: culprits(suspect), Err: err})
		return false
	case res != nil:
		r.settle(*res, nil)
		return false
	}
	return true
}

// takeResult returns the protocol's result, nil if it is not done.
func (r *Run) takeResult() (*result, error) {
	made, err := r.collect()
	if made == nil || err != nil {
		return nil, err
	}
	if made.Secret == nil {
		return &result{signature: made.Signature}, nil
	}
	s, err := newShare(r.run, r.self, made.Secret)
	if err != nil {
		return nil, err
	}
	return &result{share: s}, nil
}

// guarded turns an error or a panic of tss-lib into ours. After a panic tss-lib's
// party stays locked and must not be touched again; the engine then ends.
func (r *Run) guarded(suspect int, do func() (bool, *tss.Error)) (failure error) {
	defer func() {
		if v := recover(); v != nil {
			failure = &Error{Reason: "the protocol library panicked", Culprits: culprits(suspect)}
		}
	}()
	ok, err := do()
	if err != nil {
		return r.asError(suspect, err)
	}
	if !ok {
		return &Error{Reason: "the protocol library ignored a message", Culprits: culprits(suspect)}
	}
	return nil
}

// asError translates tss-lib's error. It keeps the text of the cause but not tss-lib's
// own description of the parties, which uses other indexes.
func (r *Run) asError(suspect int, err *tss.Error) error {
	parts := map[int]bool{}
	for _, id := range err.Culprits() {
		if part := r.places.Of(id); part != 0 {
			parts[part] = true
		}
	}
	if len(parts) == 0 && suspect != 0 {
		parts[suspect] = true
	}
	delete(parts, r.self)
	names := make([]int, 0, len(parts))
	for part := range parts {
		names = append(names, part)
	}
	slices.Sort(names)
	reason := "a proof does not hold" // where tss-lib gives no cause
	if err.Cause() != nil {
		// Some causes are lists with line breaks.
		reason = strings.Join(strings.Fields(err.Cause().Error()), " ")
	}
	return &Error{Reason: fmt.Sprintf("%s round %d: %s", r.run.Kind, err.Round(), reason), Culprits: names, Err: err.Cause()}
}

func culprits(suspect int) []int {
	if suspect == 0 {
		return nil
	}
	return []int{suspect}
}

// flush signs, seals and sends tss-lib's messages.
func (r *Run) flush() error {
	for {
		select {
		case msg := <-r.tssOut:
			rd, content, err := encode(r.envelope.rounds, msg)
			if err != nil {
				return err
			}
			to := 0
			if rd.P2P {
				to = r.places.Of(msg.GetTo()[0])
			}
			m, err := r.envelope.pack(rd, to, content)
			if err != nil {
				return err
			}
			if !rd.P2P {
				r.sent[rd.Code] = sha256.Sum256(m.Body)
				r.guard.Own(r.self, msg.(tss.ParsedMessage).Content())
			}
			r.out <- m // has room for every message of a run
		default:
			return nil
		}
	}
}
