package dirstore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/secret"
)

// aging is a key of two parties with certified epochs and the first party's share of
// each. Shares above epoch 1 have the public part of their epoch and the sealed part of
// epoch 1: a store does not open shares.
type aging struct {
	*partytest.Committee
	keyID        string
	address      string
	shares       map[int]string
	certificates map[int]*statement.Certificate
}

func newAging(t *testing.T, epochs int) *aging {
	t.Helper()
	c := partytest.NewCommittee(t, 2)
	shares := c.Keygen(t, pubkey.Ed25519, 2)
	text, err := shares[0].Seal(c.Identities[0].Recipient())
	if err != nil {
		t.Fatal(err)
	}
	public := shares[0].Public()
	a := &aging{c, public.KeyID, public.AccountAddr, map[int]string{1: text}, map[int]*statement.Certificate{1: c.FirstCertificate(t, shares)}}
	for n := 2; n <= epochs; n++ {
		a.certificates[n] = c.Refreshed(t, a.certificates[n-1], n)
		a.shares[n] = strings.Replace(text, `"epoch":1,`, fmt.Sprintf(`"epoch":%d,`, n), 1)
	}
	return a
}

// eachEpochStore runs a test with every EpochStore.
func eachEpochStore(t *testing.T, test func(*testing.T, participant.EpochStore)) {
	t.Run("mem", func(t *testing.T) { test(t, &participant.MemStore{}) })
	t.Run("dir", func(t *testing.T) { test(t, dirStore(t, filepath.Join(t.TempDir(), "home"))) })
}

// epochOf is the epoch of the share that Get and List show, 0 without one.
func (a *aging) epochOf(t *testing.T, s participant.EpochStore) int {
	t.Helper()
	ctx := context.Background()
	list, err := s.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{a.address, ""} {
		text, err := s.Get(ctx, a.keyID, address)
		if errors.Is(err, participant.ErrNoShare) && len(list) == 0 {
			continue
		}
		if err != nil || len(list) != 1 || a.shares[list[0].Epoch] != text {
			t.Fatalf("Get(%q): %v; List has %d shares", address, err, len(list))
		}
	}
	if len(list) == 0 {
		return 0
	}
	return list[0].Epoch
}

func (a *aging) epochs(t *testing.T, s participant.EpochStore) (epochs []int) {
	t.Helper()
	list, err := s.Epochs(context.Background(), a.keyID, a.address)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		epochs = append(epochs, p.Epoch)
		if text, err := s.GetEpoch(context.Background(), a.keyID, a.address, p.Epoch); err != nil || text != a.shares[p.Epoch] {
			t.Errorf("the share of epoch %d is another: %v", p.Epoch, err)
		}
	}
	return epochs
}

// TestEpochsOfAStore follows a key through two epochs.
func TestEpochsOfAStore(t *testing.T) {
	t.Parallel()
	a := newAging(t, 5)
	eachEpochStore(t, func(t *testing.T, s participant.EpochStore) {
		ctx := context.Background()
		want := func(current int, all ...int) {
			t.Helper()
			if got := a.epochOf(t, s); got != current {
				t.Errorf("the current share is of epoch %d, want %d", got, current)
			}
			if got := a.epochs(t, s); !slices.Equal(got, all) {
				t.Errorf("there are shares of epochs %v, want %v", got, all)
			}
		}
		put := func(epochs ...int) {
			t.Helper()
			for _, n := range epochs {
				if err := s.Put(ctx, a.shares[n]); err != nil {
					t.Fatal(err)
				}
			}
		}
		certify := func(numbers ...int) {
			t.Helper()
			for _, n := range numbers {
				if err := s.PutCertificate(ctx, a.certificates[n]); err != nil {
					t.Fatal(err)
				}
			}
		}
		want(0)
		if l, err := s.Lineage(ctx, a.keyID, a.address); l != nil || err != nil {
			t.Errorf("a lineage of nothing: %v, %v", l, err)
		}
		put(1)
		want(1, 1)
		put(2, 2, 4) // pending
		want(1, 1, 2, 4)
		certify(1, 1, 2, 2)
		want(2, 1, 2, 4)
		if err := s.DeleteEpoch(ctx, a.keyID, a.address, 2); !errors.Is(err, participant.ErrCurrentEpoch) {
			t.Errorf("deleting the current share: got %v, want ErrCurrentEpoch", err)
		}
		for range 2 {
			if err := s.DeleteEpoch(ctx, a.keyID, a.address, 1); err != nil {
				t.Fatal(err)
			}
		}
		want(2, 2, 4)
		if _, err := s.GetEpoch(ctx, a.keyID, a.address, 1); !errors.Is(err, participant.ErrNoShare) {
			t.Errorf("a deleted share: got %v, want ErrNoShare", err)
		}
		if err := s.PutCertificate(ctx, a.certificates[4]); err == nil {
			t.Error("stored a certificate whose parent is missing")
		}
		certify(3)
		want(0, 2, 4) // its share of the current epoch is missing
		certify(4)
		want(4, 2, 4)
		certify(1)
		if l, err := s.Lineage(ctx, a.keyID, a.address); err != nil || l.Epoch().Number != 4 || len(l.Certificates()) != 4 {
			t.Errorf("the lineage: %v", err)
		}
		other := strings.Replace(a.shares[4], `"created":"2`, `"created":"1`, 1)
		if err := s.Put(ctx, other); !errors.Is(err, participant.ErrEpochTaken) {
			t.Errorf("another share of an epoch: got %v, want ErrEpochTaken", err)
		}
		forged := *a.certificates[5]
		forged.Consents = forged.Consents[:1]
		if err := s.PutCertificate(ctx, &forged); err == nil {
			t.Error("stored a certificate without enough consents")
		}
		if n, err := s.Numbers(ctx, a.keyID, a.address, nil); err != nil || n.Highest != 4 {
			t.Errorf("the highest number is %d, %v", n.Highest, err)
		}
		if n, err := s.Numbers(ctx, a.keyID, "elsewhere", nil); err != nil || n.Highest != 0 {
			t.Errorf("the highest number of another address is %d, %v", n.Highest, err)
		}
	})
}

// TestForgedFirstCertificate: identities of somebody's own attest the same key, and
// retire no share.
func TestForgedFirstCertificate(t *testing.T) {
	t.Parallel()
	a := newAging(t, 1)
	forger := partytest.NewCommittee(t, 2)
	e := a.certificates[1].Epoch
	k := statement.Attested{
		SessionID: e.SessionID, KeyID: e.KeyID, Epoch: 1, Coordinator: e.Coordinator, Curve: e.Curve, Threshold: e.Threshold,
		Participants: []string{e.Members[0].User, e.Members[1].User}, AccountAddr: e.AccountAddr, PublicKey: e.PublicKey,
	}
	var attestations []string
	for _, id := range forger.Identities {
		one, err := k.Attest(id, forger.Members)
		if err != nil {
			t.Fatal(err)
		}
		attestations = append(attestations, one.String())
	}
	first, err := statement.FirstCertificate(k, attestations)
	if err != nil {
		t.Fatal(err)
	}
	eachEpochStore(t, func(t *testing.T, s participant.EpochStore) {
		ctx := context.Background()
		if err := s.Put(ctx, a.shares[1]); err != nil {
			t.Fatal(err)
		}
		if err := s.PutCertificate(ctx, first); err == nil {
			t.Error("a forged first certificate is stored")
		}
		if err := s.PutCertificate(ctx, a.certificates[1]); err != nil {
			t.Error(err)
		}
	})
}

// TestSwitchWithoutAGap: while epochs are certified and shares of those before deleted,
// there is a share to sign with at every moment.
func TestSwitchWithoutAGap(t *testing.T) {
	t.Parallel()
	const epochs = 8
	a := newAging(t, epochs)
	eachEpochStore(t, func(t *testing.T, s participant.EpochStore) {
		ctx := context.Background()
		if err := errors.Join(s.Put(ctx, a.shares[1]), s.PutCertificate(ctx, a.certificates[1])); err != nil {
			t.Fatal(err)
		}
		reader := s
		if d, ok := s.(*Store); ok { // another process may look on
			reader = dirStore(t, d.dir)
		}
		done := make(chan error, 1)
		go func() {
			for n := 2; n <= epochs; n++ {
				if err := errors.Join(s.Put(ctx, a.shares[n]), s.PutCertificate(ctx, a.certificates[n]), s.DeleteEpoch(ctx, a.keyID, a.address, n-1)); err != nil {
					done <- err
					return
				}
			}
			close(done)
		}()
		for last := 0; ; {
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
				return
			default:
			}
			text, err := reader.Get(ctx, a.keyID, a.address)
			if err != nil {
				t.Fatal(err)
			}
			public, err := share.ParsePublic(text)
			if err != nil || public.Epoch < last {
				t.Fatalf("epoch %d after %d, %v", public.Epoch, last, err)
			}
			last = public.Epoch
			if list, err := reader.List(ctx); err != nil || len(list) > 1 {
				t.Fatalf("List: %v, %v", list, err)
			}
		}
	})
}

// TestSwitchWhileItIsRead: the share is looked for again if another epoch was certified
// since its certificate was looked up.
func TestSwitchWhileItIsRead(t *testing.T) {
	t.Parallel()
	a := newAging(t, 3)
	s := dirStore(t, filepath.Join(t.TempDir(), "home"))
	ctx := context.Background()
	if err := errors.Join(s.Put(ctx, a.shares[1]), s.PutCertificate(ctx, a.certificates[1])); err != nil {
		t.Fatal(err)
	}
	next := 2
	s.testingOnlyListed = func() {
		if next > 3 {
			return
		}
		if err := errors.Join(s.Put(ctx, a.shares[next]), s.PutCertificate(ctx, a.certificates[next]), s.DeleteEpoch(ctx, a.keyID, a.address, next-1)); err != nil {
			t.Error(err)
		}
		next++
	}
	if text, err := s.Get(ctx, a.keyID, a.address); err != nil || text != a.shares[3] {
		t.Errorf("got %v, want the share of epoch 3", err)
	}
}

// TestShareOfAnotherCommittee: of two certificates with one number the one with the
// lower hash counts, and the share of the other does not sign.
func TestShareOfAnotherCommittee(t *testing.T) {
	t.Parallel()
	a := newAging(t, 2)
	e := *a.certificates[2].Epoch
	e.Members = slices.Clone(e.Members)
	e.Members[0].User = "someone else"
	ours := a.certificates[2].Hash()
	for i := 0; ; i++ { // until it is the one that counts
		e.SessionID = fmt.Sprint("rs-2-", i)
		if hash := e.Hash(); bytes.Compare(hash[:], ours[:]) < 0 {
			break
		}
	}
	other := a.Certify(t, &e, a.certificates[1])
	eachEpochStore(t, func(t *testing.T, s participant.EpochStore) {
		ctx := context.Background()
		err := errors.Join(s.Put(ctx, a.shares[1]), s.Put(ctx, a.shares[2]), s.PutCertificate(ctx, a.certificates[1]),
			s.PutCertificate(ctx, a.certificates[2]), s.PutCertificate(ctx, other))
		if err != nil {
			t.Fatal(err)
		}
		if got := a.epochOf(t, s); got != 0 {
			t.Errorf("the share of epoch %d signs", got)
		}
	})
}

// TestEntriesOfAStore: entries lead to no other epoch, and only the end of the key lets
// go of its share.
func TestEntriesOfAStore(t *testing.T) {
	t.Parallel()
	a := newAging(t, 2)
	entry := func(l *statement.Lineage, kind statement.EntryType) *statement.Certificate {
		t.Helper()
		e := &statement.Entry{
			KeyID: a.keyID, AccountAddr: a.address, SessionID: "en-1", Number: l.Head().Number() + 1, Parent: l.Head().Link(),
			Type: kind, Coordinator: "alice",
		}
		c := &statement.Certificate{Entry: e}
		for i, id := range a.Identities {
			text, err := e.Consent(id, l.Epoch())
			if err != nil {
				t.Fatal(err)
			}
			c.Consents = append(c.Consents, statement.PartConsent{Part: i + 1, Consent: text})
		}
		return c
	}
	eachEpochStore(t, func(t *testing.T, s participant.EpochStore) {
		ctx := context.Background()
		err := errors.Join(s.Put(ctx, a.shares[1]), s.Put(ctx, a.shares[2]), s.PutCertificate(ctx, a.certificates[1]), s.PutCertificate(ctx, a.certificates[2]))
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []statement.EntryType{statement.Archive, statement.Destroy} {
			if err := s.DeleteEpoch(ctx, a.keyID, a.address, 2); !errors.Is(err, participant.ErrCurrentEpoch) {
				t.Errorf("before %s: got %v, want ErrCurrentEpoch", kind, err)
			}
			l, err := s.Lineage(ctx, a.keyID, a.address)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.PutCertificate(ctx, entry(l, kind)); err != nil {
				t.Fatal(err)
			}
			if got := a.epochOf(t, s); got != 2 {
				t.Errorf("after %s: the current share is of epoch %d", kind, got)
			}
		}
		if err := s.DeleteEpoch(ctx, a.keyID, a.address, 2); err != nil {
			t.Errorf("of a destroyed key: %v", err)
		}
		if n, err := s.Numbers(ctx, a.keyID, a.address, nil); err != nil || n.Highest != 4 {
			t.Errorf("the highest number is %d, %v", n.Highest, err)
		}
	})
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	hash := func(b byte) statement.Hash { return statement.Hash{b} }
	eachEpochStore(t, func(t *testing.T, s participant.EpochStore) {
		ctx := context.Background()
		do := func(change func(n *participant.Numbers) error) error {
			t.Helper()
			if d, ok := s.(*Store); ok { // as a new process would see it
				s = dirStore(t, d.dir)
			}
			_, err := s.Numbers(ctx, "k", "a", change)
			return err
		}
		see := func(number int) func(*participant.Numbers) error {
			return func(n *participant.Numbers) error { return n.See(number) }
		}
		consent := func(number int, b byte) func(*participant.Numbers) error {
			return func(n *participant.Numbers) error { return n.Consent(number, hash(b)) }
		}
		giveUp := func(number int) func(*participant.Numbers) error {
			return func(n *participant.Numbers) error { n.GiveUp(number); return nil }
		}
		for i, step := range []struct {
			what   string
			change func(*participant.Numbers) error
			ok     bool
		}{
			{"see 2", see(2), true},
			{"see 2 again", see(2), false},
			{"see 1", see(1), false},
			{"see 4", see(4), true},
			{"consent to 4", consent(4, 1), true},
			{"consent to 4 again", consent(4, 1), true},
			{"consent to another 4", consent(4, 2), false},
			{"consent to 3, below it", consent(3, 1), false},
			{"consent to 6, unseen", consent(6, 1), true},
			{"consent to 4 after 6", consent(4, 1), false},
			{"see 6, consented to", see(6), false},
			{"see 7", see(7), true},
			{"give 7 up", giveUp(7), true},
			{"consent to 7", consent(7, 1), false},
			{"give 9 up", giveUp(9), true},
			{"see 9", see(9), false},
			{"consent to 8", consent(8, 1), false},
			{"consent to 10", consent(10, 3), true},
		} {
			if err := do(step.change); (err == nil) != step.ok || err != nil && !errors.Is(err, participant.ErrNumberUsed) {
				t.Errorf("step %d, %s: %v", i, step.what, err)
			}
		}
		failed := errors.New("not now")
		if err := do(func(n *participant.Numbers) error { n.Highest, n.Consents[1] = 99, hash(1); return failed }); !errors.Is(err, failed) {
			t.Errorf("got %v", err)
		}
		n, err := s.Numbers(ctx, "k", "a", nil)
		if err != nil || n.Highest != 10 || n.GivenUp != 9 || len(n.Consents) != 3 || n.Consents[4] != hash(1) || n.Consents[10] != hash(3) {
			t.Errorf("after all: %+v, %v", n, err)
		}
	})
}

// TestUnreadableNumbers: what cannot be read is not taken for nothing.
func TestUnreadableNumbers(t *testing.T) {
	t.Parallel()
	s := dirStore(t, filepath.Join(t.TempDir(), "home"))
	ctx := context.Background()
	if _, err := s.Numbers(ctx, "k", "a", func(n *participant.Numbers) error { return n.See(2) }); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.numbersFile("k", "a"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Numbers(ctx, "k", "a", nil); err == nil {
		t.Error("a damaged file is read")
	}
}

// TestDeletedShareIsGone: no file of a deleted share stays, also not one that a crash
// left under another name.
func TestDeletedShareIsGone(t *testing.T) {
	t.Parallel()
	a := newAging(t, 2)
	dir := filepath.Join(t.TempDir(), "home")
	s := dirStore(t, dir)
	ctx := context.Background()
	err := errors.Join(s.Put(ctx, a.shares[1]), s.Put(ctx, a.shares[2]), s.PutCertificate(ctx, a.certificates[1]), s.PutCertificate(ctx, a.certificates[2]))
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "shares", secret.TempPrefix+"1")
	others := filepath.Join(dir, "shares", secret.TempPrefix+"2")
	if err := errors.Join(os.WriteFile(left, []byte(a.shares[1]), 0o600), os.WriteFile(others, []byte(a.shares[2]), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteEpoch(ctx, a.keyID, a.address, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(others); err != nil {
		t.Errorf("the file of another epoch: %v", err)
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if string(text) == a.shares[1] {
			t.Errorf("%s has the deleted share", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// crashing is what the process of TestEpochsAfterCrash does, one step after the other.
type crashing struct {
	Dir, Key, Address string
	Shares            []string // of the epochs from 2 on
	Certificates      []string
}

const crashingEnv = "CONCLAVE_TEST_CRASHING"

// TestCrashingProcess is not a test but the process that TestEpochsAfterCrash kills.
func TestCrashingProcess(t *testing.T) {
	file := os.Getenv(crashingEnv)
	if file == "" {
		t.Skip("only for TestEpochsAfterCrash")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var c crashing
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	s := dirStore(t, c.Dir)
	ctx := context.Background()
	step := func(what string, n int, err error) {
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println(what, n)
	}
	for i, shareJSON := range c.Shares {
		n := i + 2
		certificate, err := statement.ParseCertificate(c.Certificates[i])
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Numbers(ctx, c.Key, c.Address, func(n *participant.Numbers) error { return n.See(i + 2) })
		step("seen", n, err)
		step("put", n, s.Put(ctx, shareJSON))
		_, err = s.Numbers(ctx, c.Key, c.Address, func(n *participant.Numbers) error { return n.Consent(i+2, certificate.Hash()) })
		step("consented", n, err)
		step("certified", n, s.PutCertificate(ctx, certificate))
		step("deleted", n-1, s.DeleteEpoch(ctx, c.Key, c.Address, n-1))
	}
}

// TestEpochsAfterCrash kills a process between any two steps and within them: whatever
// it reported has happened, and the key has a share to sign with.
func TestEpochsAfterCrash(t *testing.T) {
	t.Parallel()
	const epochs = 8
	a := newAging(t, epochs)
	for range 6 {
		dir := filepath.Join(t.TempDir(), "home")
		s := dirStore(t, dir)
		if err := errors.Join(s.Put(context.Background(), a.shares[1]), s.PutCertificate(context.Background(), a.certificates[1])); err != nil {
			t.Fatal(err)
		}
		plan := crashing{Dir: dir, Key: a.keyID, Address: a.address}
		for n := 2; n <= epochs; n++ {
			plan.Shares = append(plan.Shares, a.shares[n])
			plan.Certificates = append(plan.Certificates, a.certificates[n].String())
		}
		last := killed(t, plan, mathrand.IntN(5*(epochs-1)))
		s = dirStore(t, dir)
		certified := max(1, last["certified"]) // the next one may be too, unreported
		switch current := a.epochOf(t, s); {
		case current < certified, current > certified+1:
			t.Errorf("the current share is of epoch %d after %v", current, last)
		}
		n, err := s.Numbers(context.Background(), a.keyID, a.address, nil)
		if err != nil || n.Highest < last["seen"] || len(n.Consents) < last["consented"]-1 {
			t.Errorf("%+v after %v: %v", n, last, err)
		}
		held := a.epochs(t, s)
		if put := last["put"]; put > 0 && !slices.Contains(held, put) && last["deleted"] < put {
			t.Errorf("shares of epochs %v after %v", held, last)
		}
		if slices.Contains(held, last["deleted"]) {
			t.Errorf("shares of epochs %v after %v", held, last)
		}
	}
}

// killed starts the process, kills it after that many steps, and returns the last
// number of each kind of step that it reported.
func killed(t *testing.T, plan crashing, steps int) map[string]int {
	t.Helper()
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "plan.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashingProcess$", "-test.v")
	cmd.Env = append(os.Environ(), crashingEnv+"="+file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last, seen := map[string]int{}, 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		what, number, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			continue // what the test binary prints itself
		}
		last[what] = n
		if seen++; seen == steps {
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Wait() // it was killed
	if seen < steps || seen == 0 {
		t.Fatalf("the process has done %d steps, and was to be killed after %d", seen, steps)
	}
	return last
}
