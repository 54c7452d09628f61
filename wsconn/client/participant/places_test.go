package participant

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Limits that PARTICIPANTS states for a participant's directory and memory.
const (
	statedJournal = 16 << 20 // of journal.log under a flood of strangers
	statedPinned  = 40 << 20 // and of one pinned coordinator that floods
	statedHeap    = 48 << 20 // growth of the heap by then
)

// coordinatorKey is the identity of a user of these tests.
func coordinatorKey(t *testing.T) *identity.Identity {
	t.Helper()
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// signedInvite is an invitation to sign data with the key made, signed by id.
func signedInvite(t *testing.T, id *identity.Identity, user, session, data string) *wire.SignInvite {
	t.Helper()
	m := plainInvite(user, session, data)
	inv := signInvitation(m)
	inv.Curve = pubkey.Ed25519
	s, err := inv.request().Sign(id, time.Now(), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	m.SignedRequest = s.String()
	return m
}

func plainInvite(user, session, data string) *wire.SignInvite {
	return &wire.SignInvite{
		KeyID: "made", Data: data, AccountAddr: made.public.AccountAddr, PartIndex: 1, Participants: names, SessionID: session, Coordinator: user,
		Hash: "none", Digest: pubkey.Encode([]byte(data)), Deadline: time.Now().Add(time.Hour),
	}
}

// keyed is a participant, alice, with a share of the key made.
func keyed(t *testing.T, f *clienttest.Server, store testStore) *peer {
	t.Helper()
	makeOnce(t)
	p := newPeer(t, f, "alice")
	p.store, p.identity = store, made.identities[0]
	if err := store.Put(t.Context(), made.shares[0]); err != nil {
		t.Fatal(err)
	}
	return p
}

// answers are a user's answers by session.
func answers(f *clienttest.Server, user string) map[string]bool {
	all := map[string]bool{}
	for _, r := range clienttest.Said[*wire.SignResponse](f, user) {
		all[r.SessionID] = *r.Response
	}
	return all
}

// desk is an approver that answers only when the test does.
type desk struct {
	mu    sync.Mutex
	asked []string // sessions, by arrival
	yes   chan struct{}
}

func newDesk() *desk { return &desk{yes: make(chan struct{})} }

func (d *desk) approve(ctx context.Context, inv Invitation) (bool, string, error) {
	d.mu.Lock()
	d.asked = append(d.asked, inv.SessionID)
	d.mu.Unlock()
	select {
	case <-d.yes:
		return true, "", nil
	case <-ctx.Done():
		return false, "", ctx.Err()
	}
}

func (d *desk) seen() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

// TestPinnedGoBeforeStrangers: 64 unanswered unsigned requests do not keep a signed
// one of a pinned coordinator waiting.
func TestPinnedGoBeforeStrangers(t *testing.T) {
	f, d := clienttest.New(t), newDesk()
	p := keyed(t, f, &MemStore{})
	p.approve = func(ctx context.Context, inv Invitation) (bool, string, error) {
		if inv.Signer != nil {
			return ApproveAll(ctx, inv)
		}
		return d.approve(ctx, inv)
	}
	p.start()
	for i := range 64 + 64/4 + 5 {
		f.Send("alice", plainInvite("coord-2", fmt.Sprint("unsigned-", i), "x"))
	}
	f.Send("alice", signedInvite(t, coordinatorIdentity(), "coord", "signed", "y"))
	clienttest.WaitFor(t, "the signed request is answered", func() bool { _, ok := answers(f, "alice")["signed"]; return ok })
	got := answers(f, "alice")
	if !got["signed"] {
		t.Error("the request of a pinned coordinator is declined")
	}
	if n := len(d.seen()); n != 64/4 {
		t.Errorf("asked about %d unsigned requests at once, want a quarter of the places", n)
	}
	if len(got) != 1+5 {
		t.Errorf("%d requests are answered, want the signed one and the 5 that cannot even wait", len(got))
	}
}

// TestQuestionsInOrder: an approver with one question at a time gets pinned
// coordinators' first, in turns, then those of known ones.
func TestQuestionsInOrder(t *testing.T) {
	f, d := clienttest.New(t), newDesk()
	p := keyed(t, f, &MemStore{})
	p.approve, p.change = d.approve, func(cfg *Config) { cfg.AskAtOnce = 1 }
	ids := map[string]*identity.Identity{}
	for _, user := range []string{"pinned-1", "pinned-2", "known", "stranger"} {
		ids[user] = coordinatorKey(t)
	}
	for _, user := range []string{"pinned-1", "pinned-2"} {
		if err := p.store.Pin(user, ids[user].Public().Fingerprint()); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.store.Trust("known", ids["known"].Public()); err != nil {
		t.Fatal(err)
	}
	p.start()
	ask := func(user string, n int) {
		f.Send("alice", signedInvite(t, ids[user], user, fmt.Sprint(user, "-", n), "x"))
	}
	ask("stranger", 1)
	clienttest.WaitFor(t, "the stranger's is asked about", func() bool { return len(d.seen()) == 1 })
	ask("stranger", 2)
	ask("known", 1)
	ask("pinned-1", 1)
	ask("pinned-1", 2)
	ask("pinned-2", 1)
	clienttest.WaitFor(t, "all have come", func() bool { return count[Invited](p) == 6 })
	close(d.yes)
	clienttest.WaitFor(t, "all are asked about", func() bool { return len(d.seen()) == 6 })
	clienttest.Want(t, "order", d.seen(), []string{"stranger-1", "pinned-1-1", "pinned-2-1", "pinned-1-2", "known-1", "stranger-2"})
}

// TestPinnedFloodLeavesOthersTheirPlaces: excess requests of one pinned coordinator
// wait, and are then declined; another one is served meanwhile.
func TestPinnedFloodLeavesOthersTheirPlaces(t *testing.T) {
	f, d := clienttest.New(t), newDesk()
	p := keyed(t, f, &MemStore{})
	other := coordinatorKey(t)
	p.change = func(cfg *Config) { cfg.MaxSessions = 8 }
	p.approve = func(ctx context.Context, inv Invitation) (bool, string, error) {
		if inv.Coordinator == "other" {
			return true, "", nil
		}
		return d.approve(ctx, inv)
	}
	if err := p.store.Pin("other", other.Public().Fingerprint()); err != nil {
		t.Fatal(err)
	}
	p.start()
	for i := range 4 + 16 + 3 {
		f.Send("alice", signedInvite(t, coordinatorIdentity(), "coord", fmt.Sprint("s-", i), "x"))
	}
	for i := range 5 {
		f.Send("alice", signedInvite(t, other, "other", fmt.Sprint("other-", i), "x"))
	}
	clienttest.WaitFor(t, "the other's are answered", func() bool { return answers(f, "alice")["other-3"] })
	clienttest.WaitFor(t, "what is too much is declined", func() bool { return len(answers(f, "alice")) == 4+3 })
	if n := len(d.seen()); n != 4 {
		t.Errorf("asked about %d of the first, want half of the places", n)
	}
	for _, r := range clienttest.Said[*wire.SignResponse](f, "alice") {
		if !*r.Response && r.Reason != "too many requests of coord wait here" {
			t.Errorf("%s is declined: %q", r.SessionID, r.Reason)
		}
	}
}

// TestKeygensPerHour: excess keygens are declined without a question, and a
// declined one does not count.
func TestKeygensPerHour(t *testing.T) {
	f := clienttest.New(t)
	p := newPeer(t, f, "alice")
	p.change = func(cfg *Config) { cfg.KeygensPerHour = 2 }
	asked := make(chan string, 10)
	p.approve = func(_ context.Context, inv Invitation) (bool, string, error) {
		asked <- inv.SessionID
		return len(asked) != 2, "", nil
	}
	p.start()
	for i := range 5 {
		m := keygenInvite(t)
		m.SessionID = fmt.Sprint("kg-", i)
		f.Send("alice", m)
		clienttest.WaitFor(t, "an answer", func() bool { return len(clienttest.Said[*wire.KeygenResponse](f, "alice")) == i+1 })
	}
	if len(asked) != 3 {
		t.Errorf("asked about %d keygens, want 3: two are accepted, one is declined", len(asked))
	}
}

// floodSize is how many invitations of one kind a flood has: more than may be kept.
const floodSize = 150

// TestFlood has a captured server send many invitations of the largest size, of
// every kind, to a participant whose journal is a file. It keeps little of them, in
// memory, on disk and over a restart, and serves a pinned coordinator meanwhile.
func TestFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("floods")
	}
	junk := strings.Repeat("j", 255<<10)
	data := strings.Repeat("d", 120<<10)
	hostile := coordinatorKey(t)
	for _, tc := range sample.Of(1, []struct {
		name   string
		invite func(i int) *wire.SignInvite
		most   int64
	}{
		{"unsigned", func(i int) *wire.SignInvite { return plainInvite("coord-2", fmt.Sprint("flood-", i), data) }, statedJournal},
		{"junk for a signature", func(i int) *wire.SignInvite {
			m := plainInvite("coord-2", fmt.Sprint("flood-", i), data)
			m.SignedRequest = junk
			return m
		}, statedJournal},
		{"signed by unknowns", func(i int) *wire.SignInvite {
			return signedInvite(t, partytest.Identity(t), fmt.Sprint("nobody-", i), fmt.Sprint("flood-", i), data)
		}, statedJournal},
		{"signed by a pinned one", func(i int) *wire.SignInvite {
			return signedInvite(t, hostile, "hostile", fmt.Sprint("flood-", i), data)
		}, statedPinned},
	}) {
		t.Run(tc.name, func(t *testing.T) { flood(t, hostile, tc.invite, floodSize, tc.most) })
	}
}

func flood(t *testing.T, hostile *identity.Identity, invite func(i int) *wire.SignInvite, size int, most int64) {
	dir := filepath.Join(t.TempDir(), "home")
	store := dirStore(t, dir)
	f, d := clienttest.New(t), newDesk()
	p := keyed(t, f, store)
	if err := store.Pin("hostile", hostile.Public().Fingerprint()); err != nil {
		t.Fatal(err)
	}
	// A person who answers one question at a time, and alice's only.
	p.approve = func(ctx context.Context, inv Invitation) (bool, string, error) {
		if inv.Coordinator == "coord" {
			return true, "", nil
		}
		return d.approve(ctx, inv)
	}
	p.start()
	before := heap()
	for i := range size {
		if i == size/2 {
			began := time.Now()
			f.Send("alice", signedInvite(t, coordinatorIdentity(), "coord", "wanted", "pay bob"))
			clienttest.WaitFor(t, "the wanted request is accepted", func() bool { return answers(f, "alice")["wanted"] })
			t.Logf("accepted %s after it was sent", time.Since(began).Round(time.Millisecond))
		}
		f.Send("alice", invite(i))
		if i%100 == 99 {
			f.Await(t, "alice")
		}
	}
	f.Await(t, "alice")
	grown, kept := heap()-before, journalSize(t, dir)
	t.Logf("the heap has grown by %d KiB, the journal has %d KiB", grown>>10, kept>>10)
	if grown > statedHeap {
		t.Errorf("the heap has grown by %d MiB, want at most %d", grown>>20, statedHeap>>20)
	}
	if kept > most {
		t.Errorf("the journal has %d MiB, want at most %d", kept>>20, most>>20)
	}
	seen := len(d.seen())
	p.end()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	p.start()
	// The last of them again: they were declined, and cause no question.
	for i := size - size/4; i < size; i++ {
		f.Send("alice", invite(i))
	}
	f.Await(t, "alice")
	asked := map[string]bool{}
	for _, session := range d.seen()[seen:] {
		asked[session] = true
	}
	for i := size - size/4; i < size; i++ {
		if asked[fmt.Sprint("flood-", i)] {
			t.Errorf("flood-%d is asked about after it was declined", i)
		}
	}
	if kept := journalSize(t, dir); kept > most {
		t.Errorf("after a restart the journal has %d MiB, want at most %d", kept>>20, most>>20)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func journalSize(t *testing.T, dir string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, "journal.log"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestDeclinedWithoutAsking: an invitation declined without a question leaves an
// id, is declined again when repeated, and does not fill the screen.
func TestDeclinedWithoutAsking(t *testing.T) {
	f := clienttest.New(t)
	p := keyed(t, f, &MemStore{})
	p.change = func(cfg *Config) { cfg.SignedOnly = true }
	p.approve = func(context.Context, Invitation) (bool, string, error) {
		t.Error("asked about what is not signed")
		return true, "", nil
	}
	p.start()
	for i := range 3 * maxDeclines {
		f.Send("alice", plainInvite("coord-2", fmt.Sprint("s-", i), "x"))
	}
	f.Send("alice", plainInvite("coord-2", "s-0", "x"))
	clienttest.WaitFor(t, "all are declined", func() bool { return len(clienttest.Said[*wire.SignResponse](f, "alice")) == 3*maxDeclines+1 })
	if n := count[Answered](p); n != maxDeclines {
		t.Errorf("%d answers are shown, want %d", n, maxDeclines)
	}
	for session, ok := range answers(f, "alice") {
		if ok {
			t.Errorf("%s is accepted", session)
		}
	}
	open, err := p.store.Open(t.Context())
	if err != nil || len(open) != 0 {
		t.Errorf("%d records are open, %v", len(open), err)
	}
}

// TestUnacknowledgedAnswers: a server that acknowledges nothing does not fill the
// memory with answers.
func TestUnacknowledgedAnswers(t *testing.T) {
	t.Parallel()
	v := newInvited(t, func(cfg *Config) { cfg.SignedOnly = true })
	for i := range 3 * maxResponses {
		if err := v.invited(t.Context(), signInvitation(plainInvite("coord", fmt.Sprint("s-", i), "x"))); err != nil {
			t.Fatal(err)
		}
	}
	if n := v.link.Unanswered(wire.TypeSignResponse); n != maxResponses {
		t.Errorf("%d answers wait to be acknowledged, want %d", n, maxResponses)
	}
}

// TestLapse: a question unanswered until its deadline is withdrawn, and its place
// is free.
func TestLapse(t *testing.T) {
	v := newInvited(t, nil)
	v.cfg.Approve = newDesk().approve
	ctx := t.Context()
	past := Invitation{Kind: request.KindSign, SessionID: "s", Deadline: time.Now().Add(-time.Minute)}
	task := v.add(ctx, Record{Invitation: past, At: time.Now()}, nil)
	task.lapse() // too soon: clocks may differ
	if v.find("s") == nil {
		t.Error("it is forgotten at once")
	}
	short, cancel := context.WithDeadline(ctx, time.Now())
	defer cancel()
	v.lapse(short, task)
	clienttest.WaitFor(t, "the session is forgotten", func() bool { return v.find("s") == nil })
	if r, ok, err := v.store.Read(t.Context(), "s"); !ok || !r.Ended || r.Answer != Declined || err != nil {
		t.Errorf("the journal says %+v, %t, %v", r, ok, err)
	}
	if n := v.link.Unanswered(wire.TypeSignResponse); n != 0 {
		t.Errorf("%d answers, want none", n)
	}
}

// TestEarlyMessagesTogether: sessions share the room for early round messages, and
// each has some of its own.
func TestEarlyMessagesTogether(t *testing.T) {
	t.Parallel()
	v := newInvited(t, nil)
	for i := range 20 {
		v.add(t.Context(), Record{Invitation: Invitation{SessionID: fmt.Sprint("s-", i)}, At: time.Now(), Answer: Accepted}, nil)
	}
	body := strings.Repeat("A", 512<<10)
	kept := map[string]int{}
	for i := range 20 {
		for range 30 {
			v.roundMessage(0, &wire.TSSMessage{SessionID: fmt.Sprint("s-", i), Attempt: 1, From: 2, Body: body})
		}
	}
	total := 0
	for id, task := range v.sessions {
		kept[id] = task.bytes
		total += task.bytes
		if task.bytes < sureEarlyBytes/2 || task.bytes > maxEarlyBytes {
			t.Errorf("%s keeps %d bytes", id, task.bytes)
		}
	}
	if total > maxEarlyTotal+20*sureEarlyBytes || total < maxEarlyTotal/2 {
		t.Errorf("%d bytes are kept", total)
	}
}

// TestNoAttemptsWithoutEnd: a server cannot have a keygen run again and again, each
// time for a set of pre-parameters.
func TestNoAttemptsWithoutEnd(t *testing.T) {
	v := newInvited(t, nil)
	v.add(t.Context(), Record{Invitation: Invitation{Kind: request.KindKeygen, SessionID: "s"}, At: time.Now(), Answer: Accepted}, nil)
	begun := 0
	for i := range 100 {
		check := func(Invitation) (attempt, error) { begun++; return attempt{}, errors.New("no") }
		if err := v.begin(t.Context(), "s", i, check); err != nil {
			t.Fatal(err)
		}
	}
	if begun != maxRuns(request.KindKeygen) {
		t.Errorf("%d attempts begun", begun)
	}
}
