package participant_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/internal/livetest"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
)

// A participant decides by a rule: it takes part in keys of a committee of at least
// three, and signs payments of one form. The coordinator learns why it declines
// others.
func ExampleServe() {
	s := livetest.Start()
	defer s.Stop()
	approve := func(_ context.Context, inv participant.Invitation) (ok bool, reason string, err error) {
		switch {
		case inv.Kind == request.KindKeygen && len(inv.Participants) < 3:
			return false, "too small a committee", nil
		case inv.Kind == request.KindSign && !strings.HasPrefix(inv.Data, "pay "):
			return false, "I sign payments only", nil
		}
		return true, "", nil
	}
	for _, user := range []string{"bob", "carol", "dave"} {
		s.Serve(user, new(participant.MemStore), approve)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := s.Dial(ctx, "alice")
	defer c.Close()
	key, err := c.Keygen(ctx, client.KeygenRequest{Threshold: 2, Participants: []string{"bob", "carol", "dave"}, Curve: pubkey.Ed25519})
	if err != nil {
		log.Fatal(err)
	}
	for _, data := range []string{"pay bob 5", "give everything away"} {
		_, err := c.Sign(ctx, client.SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: data})
		var outcome *request.OutcomeError
		switch {
		case err == nil:
			fmt.Println("signed:", data)
		case errors.As(err, &outcome):
			fmt.Println(outcome.Status, "-", data)
		default:
			log.Fatal(err)
		}
	}
	// Output:
	// signed: pay bob 5
	// rejected - give everything away
}

// fileStore keeps each sealed share in a file of its own, on any file system: a
// store needs three methods. (This one keeps its journal and known identities in
// memory, with MemStore, and loses them; that of package dirstore does not.)
type fileStore struct {
	participant.MemStore
	dir string
}

func (s *fileStore) Put(_ context.Context, shareJSON string) error {
	public, err := share.ParsePublic(shareJSON)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s~%s.json", public.KeyID, public.AccountAddr)
	f, err := os.OpenFile(filepath.Join(s.dir, name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(shareJSON)
	return errors.Join(err, f.Sync(), f.Close()) // durable once Put returns
}

func (s *fileStore) Get(_ context.Context, keyID, accountAddr string) (string, error) {
	if accountAddr == "" {
		accountAddr = "*"
	}
	names, err := filepath.Glob(filepath.Join(s.dir, keyID+"~"+accountAddr+".json"))
	if err != nil || len(names) == 0 {
		return "", errors.Join(err, participant.ErrNoShare)
	}
	text, err := os.ReadFile(names[len(names)-1])
	return string(text), err
}

func (s *fileStore) List(ctx context.Context) ([]share.Public, error) {
	names, err := filepath.Glob(filepath.Join(s.dir, "*.json"))
	var all []share.Public
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		public, err := share.ParsePublic(string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, public)
	}
	return all, err
}

// A participant may keep its shares anywhere: they are sealed to its identity
// before the store gets them.
func ExampleShareStore() {
	s := livetest.Start()
	defer s.Stop()
	dir, err := os.MkdirTemp("", "shares-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	always := func(context.Context, participant.Invitation) (bool, string, error) { return true, "", nil }
	store := &fileStore{dir: dir}
	s.Serve("bob", store, always)
	s.Serve("carol", new(participant.MemStore), always)

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := s.Dial(ctx, "alice")
	defer c.Close()
	key, err := c.Keygen(ctx, client.KeygenRequest{KeyID: "savings", Threshold: 2, Participants: []string{"bob", "carol"}, Curve: pubkey.Ed25519})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := c.Sign(ctx, client.SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "with a share from a file"}); err != nil {
		log.Fatal(err)
	}
	shares, err := store.List(ctx)
	if err != nil {
		log.Fatal(err)
	}
	text, err := store.Get(ctx, "savings", key.AccountAddr)
	if err != nil {
		log.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		log.Fatal(err)
	}
	fmt.Println("part", shares[0].PartIndex, "of", shares[0].KeyID, "- sealed:", strings.Contains(string(fields["sealed"]), "AGE ENCRYPTED FILE"))
	// Output: part 1 of savings - sealed: true
}
