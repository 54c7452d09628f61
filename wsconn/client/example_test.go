package client_test

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/mr-tron/base58"
	"golang.org/x/crypto/sha3"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// A coordinator has three people make a key, of whom two must sign, and signs
// with it.
func Example() {
	s := startServer() // in a program: conclaved
	defer s.stop()
	for _, user := range []string{"bob", "carol", "dave"} {
		s.serve(user, new(client.MemStore), func(context.Context, client.Invitation) (bool, string, error) { return true, "", nil })
	}

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, client.Config{URLs: []string{s.url}, Token: client.StaticToken(s.token("alice", wire.RoleCoordinator))})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	key, err := c.Keygen(ctx, client.KeygenRequest{
		KeyID: "treasury", Threshold: 2, Participants: []string{"bob", "carol", "dave"}, Curve: pubkey.Ed25519,
	})
	if err != nil {
		log.Fatal(err)
	}
	sig, err := c.Sign(ctx, client.SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "pay bob 5"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.KeyID, "signed", sig.Data) // and Sign has verified it
	// Output: treasury signed pay bob 5
}

// A participant decides by a rule: it takes part in keys of a committee of at
// least three, and signs payments of one form. What it declines, and why, is told
// to the coordinator.
func ExampleClient_Serve() {
	s := startServer()
	defer s.stop()
	approve := func(_ context.Context, inv client.Invitation) (ok bool, reason string, err error) {
		switch {
		case inv.Kind == client.KindKeygen && len(inv.Participants) < 3:
			return false, "too small a committee", nil
		case inv.Kind == client.KindSign && !strings.HasPrefix(inv.Data, "pay "):
			return false, "I sign payments only", nil
		}
		return true, "", nil
	}
	for _, user := range []string{"bob", "carol", "dave"} {
		s.serve(user, new(client.MemStore), approve)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := s.dial(ctx, "alice")
	defer c.Close()
	key, err := c.Keygen(ctx, client.KeygenRequest{Threshold: 2, Participants: []string{"bob", "carol", "dave"}, Curve: pubkey.Ed25519})
	if err != nil {
		log.Fatal(err)
	}
	for _, data := range []string{"pay bob 5", "give everything away"} {
		_, err := c.Sign(ctx, client.SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: data})
		var outcome *client.OutcomeError
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

// A coordinator learns why there is no key, and asks again: the same KeyID with
// other participants.
func ExampleClient_Keygen() {
	s := startServer()
	defer s.stop()
	for _, user := range []string{"bob", "carol", "dave"} {
		s.serve(user, new(client.MemStore), func(context.Context, client.Invitation) (bool, string, error) {
			if user == "dave" {
				return false, "on holiday", nil
			}
			return true, "", nil
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := s.dial(ctx, "alice")
	defer c.Close()
	for _, committee := range [][]string{{"bob", "carol", "dave"}, {"bob", "carol"}} {
		_, err := c.Keygen(ctx, client.KeygenRequest{KeyID: "savings", Threshold: 2, Participants: committee, Curve: pubkey.Ed25519})
		var outcome *client.OutcomeError
		if errors.As(err, &outcome) {
			fmt.Println(outcome.Status, "because", outcome.Reason)
			continue
		} else if err != nil {
			log.Fatal(err)
		}
		fmt.Println("a key of", strings.Join(committee, " and "))
	}
	// Output:
	// rejected because dave (part 3) declined: on holiday
	// a key of bob and carol
}

// fileStore keeps each sealed share in a file of its own, wherever that is: a
// store needs three methods. (This one keeps its journal and whom it knows in
// memory, from MemStore, and forgets them; client.DirStore does not.)
type fileStore struct {
	client.MemStore
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
		return "", errors.Join(err, client.ErrNoShare)
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

// A participant keeps its shares where it likes: they are sealed to its identity
// before the store sees them.
func ExampleShareStore() {
	s := startServer()
	defer s.stop()
	dir, err := os.MkdirTemp("", "shares-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	always := func(context.Context, client.Invitation) (bool, string, error) { return true, "", nil }
	store := &fileStore{dir: dir}
	s.serve("bob", store, always)
	s.serve("carol", new(client.MemStore), always)

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := s.dial(ctx, "alice")
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

// An ed25519 signature is one like any other: the standard library verifies it
// under the account address, which is the public key in base58.
func Example_verifyEd25519() {
	sig := signedBy("ed25519", "pay bob 5")

	public, err := base58.Decode(sig.AccountAddr)
	if err != nil {
		log.Fatal(err)
	}
	raw, err := hex.DecodeString(strings.TrimPrefix(sig.Signature, "0x"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ed25519.Verify(public, []byte("pay bob 5"), raw), ed25519.Verify(public, []byte("pay bob 6"), raw))
	// Output: true false
}

// A signature over text by a secp256k1 key is Ethereum's personal_sign: recover
// the key from it, and compare addresses.
func Example_verifyEthereum() {
	sig := signedBy("secp256k1", "pay bob 5")

	keccak := func(text []byte) []byte {
		h := sha3.NewLegacyKeccak256()
		h.Write(text)
		return h.Sum(nil)
	}
	recovered := func(text string) string {
		raw, err := hex.DecodeString(strings.TrimPrefix(sig.Signature, "0x"))
		if err != nil {
			log.Fatal(err)
		}
		digest := keccak(fmt.Appendf(nil, "\x19Ethereum Signed Message:\n%d%s", len(text), text))
		compact := slices.Concat(raw[64:], raw[:64]) // v first
		key, _, err := ecdsa.RecoverCompact(compact, digest)
		if err != nil {
			log.Fatal(err)
		}
		return "0x" + hex.EncodeToString(keccak(key.SerializeUncompressed()[1:])[12:])
	}
	fmt.Println(recovered("pay bob 5") == strings.ToLower(sig.AccountAddr), recovered("pay bob 6") == strings.ToLower(sig.AccountAddr))
	// Output: true false
}

// server is a node on a Redis in memory, for the examples.
type server struct {
	url    string
	tokens *auth.HS256
	stop   func()
	ctx    context.Context
	lives  sync.WaitGroup
}

func startServer() *server {
	redis, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	redis.ClockTTL(true)
	secret := []byte("an example's secret of 32 bytes or more")
	n, err := node.New(node.Config{Listen: "127.0.0.1:0", Redis: "redis://" + redis.Addr(), JWTSecret: secret, DrainSpread: time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	if err := n.Start(); err != nil {
		log.Fatal(err)
	}
	tokens, err := auth.NewHS256(secret, "", "")
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &server{url: "http://" + n.Addr(), tokens: tokens, ctx: ctx}
	s.stop = func() {
		cancel()
		s.lives.Wait()
		_ = n.Stop(context.Background())
		redis.Close()
	}
	return s
}

// token is what logging in would return.
func (s *server) token(user string, role wire.Role) string {
	token, _, err := s.tokens.Issue(user, []wire.Role{role}, time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	return token
}

func (s *server) dial(ctx context.Context, user string) *client.Client {
	c, err := client.Dial(ctx, client.Config{URLs: []string{s.url}, Token: client.StaticToken(s.token(user, wire.RoleCoordinator))})
	if err != nil {
		log.Fatal(err)
	}
	return c
}

// serve runs a participant until the server stops.
func (s *server) serve(user string, store client.ShareStore, approve client.Approver) {
	identity, err := identity.New()
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(client.Config{
		URLs: []string{s.url}, Token: client.StaticToken(s.token(user, wire.RoleParticipant)), Identity: identity, Store: store, Concurrency: 1,
	})
	if err != nil {
		log.Fatal(err)
	}
	s.lives.Go(func() {
		if err := c.Serve(s.ctx, approve); err != nil {
			log.Fatal(err)
		}
	})
}
