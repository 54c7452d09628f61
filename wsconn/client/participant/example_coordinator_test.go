package participant_test

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"slices"
	"strings"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/mr-tron/base58"
	"golang.org/x/crypto/sha3"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/internal/livetest"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// A coordinator has three participants make a key with threshold 2, and signs with
// it.
func Example_coordinator() {
	s := livetest.Start() // in a program: conclaved
	defer s.Stop()
	for _, user := range []string{"bob", "carol", "dave"} {
		s.Serve(user, new(participant.MemStore), func(context.Context, participant.Invitation) (bool, string, error) { return true, "", nil })
	}

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, client.Config{URLs: []string{s.URL}, Token: client.StaticToken(s.Token("alice", wire.RoleCoordinator))})
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

// A coordinator learns why a keygen failed, and tries again: the same KeyID with
// other participants.
func Example_keygenAgain() {
	s := livetest.Start()
	defer s.Stop()
	for _, user := range []string{"bob", "carol", "dave"} {
		s.Serve(user, new(participant.MemStore), func(context.Context, participant.Invitation) (bool, string, error) {
			if user == "dave" {
				return false, "on holiday", nil
			}
			return true, "", nil
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := s.Dial(ctx, "alice")
	defer c.Close()
	for _, committee := range [][]string{{"bob", "carol", "dave"}, {"bob", "carol"}} {
		_, err := c.Keygen(ctx, client.KeygenRequest{KeyID: "savings", Threshold: 2, Participants: committee, Curve: pubkey.Ed25519})
		var outcome *request.OutcomeError
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

// An ed25519 signature is a standard one: the standard library verifies it under
// the account address, which is the public key in base58.
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
