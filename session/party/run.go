package party

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/internal/tss"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
)

// Run is one party's side of a key generation, signing or reshare. Create it with
// [NewKeygen], [NewSign] or [NewReshare], send the messages of [Run.Out] to the other parties and pass theirs to
// [Run.Accept], and call [Run.Start] once. All methods are safe for concurrent use.
type Run struct {
	// Immutable after construction.
	run      *statement.Run
	self     int
	places   *tss.Places
	envelope *envelope
	out      chan Message
	done     chan struct{}

	// Owned by the engine goroutine.
	party   tss.Party
	tssOut  chan tss.Message
	collect func() (*tss.Result, error) // takes tss-lib's result, nil if not done
	guard   *tss.Guard
	wipe    func()                     // overwrites secrets at the end; nil if there are none to
	stages  map[int]*stage             // by round number, of the current round and later ones
	current int                        // the first round not yet given to tss-lib
	sent    map[byte][sha256.Size]byte // hashes of the own broadcasts, by round code

	// testingOnlyTrusting makes a run accept any echo: for a malicious party, which
	// knows that it sent something else than its engine. False outside tests.
	testingOnlyTrusting bool

	mu      sync.Mutex
	arrived *sync.Cond // signals changes of queue and ended; its lock is mu
	started bool
	ended   bool // err or result is final; the engine stops after its current step
	err     error
	first   map[slot]Message // the first authentic message of each place, as received
	queue   []inbound        // decoded, not yet handed to tss-lib
	handed  map[int]int      // messages handed to tss-lib, by round number
	result  result
}

// result is a run's result: one of the two, or none.
type result struct {
	share     *share.Share
	signature []byte
}

// slot is a message's place; each is filled at most once.
type slot struct {
	from int
	code byte
}

// inbound is a decoded message on its way to tss-lib, or an echo.
type inbound struct {
	from  int
	round *round
	hash  [sha256.Size]byte // of its body
	sig   []byte
	msg   tss.ParsedMessage // nil for an echo
	echo  []copied
}

// protocol holds the differences between the protocols.
type protocol struct {
	places *tss.Places
	guard  *tss.Guard
	build  tss.Build
	wipe   func() // as in Run
}

// parts lists the numbers of a run's parties.
func parts(run *statement.Run) []int {
	list := make([]int, len(run.Parties))
	for i, m := range run.Parties {
		list[i] = m.Index
	}
	return list
}

func newRun(run *statement.Run, self int, own *identity.Identity, p protocol) (r *Run, err error) {
	run.Parties = slices.Clone(run.Parties)
	env, err := newEnvelope(run, self, own)
	if err != nil {
		return nil, err
	}
	// Both channels hold every message of a run, so that neither tss-lib nor the engine
	// ever waits for Out's reader.
	sends := 0
	for _, rd := range env.rounds {
		switch {
		case !rd.SentBy(run.Side(self)):
		case rd.P2P:
			sends += len(env.peers)
		default:
			sends++
		}
	}
	r = &Run{
		run: run, self: self, places: p.places, envelope: env,
		out:    make(chan Message, sends),
		done:   make(chan struct{}),
		tssOut: make(chan tss.Message, sends),
		first:  map[slot]Message{},
		handed: map[int]int{},

		guard:  p.guard,
		wipe:   p.wipe,
		stages: map[int]*stage{},
		sent:   map[byte][sha256.Size]byte{},
	}
	r.current = r.withContent(1)
	r.arrived = sync.NewCond(&r.mu)
	defer func() { // tss-lib's constructors panic on invalid arguments
		if v := recover(); v != nil {
			r, err = nil, errors.New("tss-lib does not accept its input")
		}
	}()
	r.party, r.collect = p.build(r.tssOut)
	return r, nil
}

// Start begins the protocol, including messages accepted before. It returns an error if
// the run was started or has ended already.
func (r *Run) Start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ended:
		return ErrEnded
	case r.started:
		return errors.New("party: run was started before")
	}
	r.started = true
	go r.engine()
	return nil
}

// Out carries the messages to send to the other parties. It is closed when the run
// ends; messages still in it must be delivered, since the others may need them. It
// holds a whole run's messages, so a slow reader delays only the others.
func (r *Run) Out() <-chan Message { return r.out }

// Accept takes a message from another party. It returns once the message is checked and
// queued, without waiting for the protocol, and keeps no reference to m.
//
// The first message of each sender and round counts. Nil means that m is this one, or
// an equal copy, or in a reshare a broadcast to the other committee. [ErrNotAuthentic] means that its origin cannot be proved. [ErrEnded]
// means that the run is over. An [*Error] names the sender as culprit and has the
// signed copies as evidence: m does not decode, which fails the run; or m differs from
// the first, which does not affect the run (it goes on with the first).
func (r *Run) Accept(m Message) error {
	rd, err := r.envelope.authenticate(&m)
	if err != nil || !r.envelope.ours(rd) {
		return err
	}
	fresh, err := r.claim(&m)
	if err != nil || !fresh {
		return err
	}
	content, err := r.envelope.open(rd, &m)
	if err != nil {
		return r.failFirst(rd, &m, err)
	}
	in := inbound{from: m.From, round: rd, hash: sha256.Sum256(m.Body), sig: bytes.Clone(m.Sig)}
	if rd.Echo() {
		in.echo, err = r.decodeEcho(rd, m.From, content)
	} else {
		in.msg, err = rd.Decode(r.places.ID(m.From), !rd.P2P, content)
	}
	if err != nil {
		return r.failFirst(rd, &m, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return ErrEnded
	}
	r.queue = append(r.queue, in)
	r.arrived.Broadcast()
	return nil
}

// claim fills an authentic message's place with it, or compares it with the earlier
// one. The places bound a run's memory, even before Start.
func (r *Run) claim(m *Message) (fresh bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	place := slot{m.From, m.Body[1]}
	first, taken := r.first[place]
	switch {
	case taken && first.same(m):
		return false, nil
	case taken:
		return false, &Error{
			Reason:   fmt.Sprintf("%s: two different messages from one sender", roundByCode(r.envelope.rounds, m.Body[1]).Name),
			Culprits: []int{m.From},
			Evidence: []Message{first.clone(), m.clone()},
			Proof:    r.proofOf(&first, m),
		}
	case r.ended:
		return false, ErrEnded
	}
	r.first[place] = m.clone()
	return true, nil
}

func (r *Run) failFirst(rd *round, m *Message, err error) error {
	failure := &Error{
		Reason:   fmt.Sprintf("%s: %v", rd.Name, err),
		Culprits: []int{m.From},
		Evidence: []Message{m.clone()},
		Err:      err,
	}
	r.end(failure)
	return failure
}

// Done is closed when the run and its goroutine have ended: the result or the error is
// available.
func (r *Run) Done() <-chan struct{} { return r.done }

// Err returns why the run failed: an [*Error], or [ErrClosed]. It is nil while
// the run goes on and after success.
func (r *Run) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Share returns the result of a key generation, or of a party of the new committee in a
// reshare. It is nil before the run is done, and always for the old committee.
func (r *Run) Share() *share.Share {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.result.share
}

// Signature returns the result of a signing, nil before the run is done: on secp256k1
// r‖s‖v, 65 bytes with low s and a v of 27 or 28; on ed25519 R‖S, 64 bytes. It has been
// verified against the share's public key.
func (r *Run) Signature() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.result.signature)
}

// Close ends the run, if it has not ended, and waits for its goroutine: for the round
// in progress, in key generation up to some seconds.
func (r *Run) Close() {
	r.end(ErrClosed)
	<-r.done
}

// Waiting returns the part indexes of the parties whose messages the run is waiting
// for, ascending. It is empty while the run computes or after its end. While a round
// message is missing, its echoes are not waited for.
func (r *Run) Waiting() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return nil
	}
	for number := 1; number <= r.lastRound(); number++ {
		for _, echo := range []bool{false, true} {
			if parts := r.missing(number, echo); len(parts) > 0 {
				return parts
			}
		}
	}
	return nil
}

// missing returns the parties that have not sent all messages, or echoes, of a round.
func (r *Run) missing(number int, echo bool) []int {
	var parts []int
	for part := range r.envelope.peers {
		for _, rd := range r.envelope.rounds {
			_, here := r.first[slot{part, rd.Code}]
			expected := r.envelope.ours(&rd) && rd.SentBy(r.run.Side(part))
			if rd.Number == number && rd.Echo() == echo && expected && !here {
				parts = append(parts, part)
				break
			}
		}
	}
	slices.Sort(parts)
	return parts
}

// Round returns the party's current round, from 1, and the number of rounds; 0 before
// Start. After success both are equal.
func (r *Run) Round() (n, of int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.started {
		return 0, r.lastRound()
	}
	return min(r.currentRound(), r.lastRound()), r.lastRound()
}

func (r *Run) lastRound() int { return r.envelope.rounds[len(r.envelope.rounds)-1].Number }

// currentRound is the first round that tss-lib does not have completely.
func (r *Run) currentRound() int {
	for number := 1; number <= r.lastRound(); number++ {
		if r.handed[number] < r.contentOf(number) {
			return number
		}
	}
	return r.lastRound() + 1
}

// contentOf returns how many messages tss-lib needs from the others in a round.
func (r *Run) contentOf(number int) int {
	n := 0
	for i := range r.envelope.rounds {
		if rd := &r.envelope.rounds[i]; rd.Number == number && !rd.Echo() && r.envelope.ours(rd) {
			n += r.envelope.senders(rd)
		}
	}
	return n
}

// end makes err the run's outcome, unless it has one.
func (r *Run) end(err error) { r.settle(result{}, err) }

func (r *Run) settle(res result, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.ended, r.result, r.err = true, res, err
	r.queue = nil
	r.arrived.Broadcast()
	if !r.started { // there is no engine to do it
		r.forget()
		close(r.out)
		close(r.done)
	}
}

// forget overwrites the secrets of a run that has ended.
func (r *Run) forget() {
	if r.wipe != nil {
		r.wipe()
	}
}
