package e2e_test

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/edwards/v2"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestCapturePlainShares covers clients that do not seal their shares, if the
// operator has given the nodes a key for them: the holder of a node has these
// shares, and so the key; the holder of Redis has nothing without that key.
func TestCapturePlainShares(t *testing.T) {
	t.Parallel()
	h, k := tappedCluster(t, withKEK...)
	door := &process{t: t, base: h.url}
	made := plainKeygen(t, 2, 3)
	address, err := pubkey.Ed25519.Address(edwards.NewPublicKey(made.public.X(), made.public.Y()).Serialize())
	if err != nil {
		t.Fatal(err)
	}
	alice := h.c.client("alice", wire.RoleCoordinator).connect(door)
	var parts []*seedClient
	for _, user := range partUsers {
		parts = append(parts, h.c.client(user, wire.RoleParticipant).connect(door))
	}
	const keyID = "plain.1"
	alice.send("keygen_request", object{"key_id": keyID, "threshold": 2, "total_parts": 3, "participants": partUsers, "curve": "ed25519"})
	for i, s := range parts {
		s.expect("keygen_invite")
		s.send("keygen_response", object{"key_id": keyID, "part_index": i + 1, "response": true})
	}
	for i, s := range parts {
		s.expect("keygen_params")
		s.send("keygen_complete", object{"key_id": keyID, "part_index": i + 1, "account_addr": address, "share_json": made.saves[i]})
	}
	if got := alice.expect("keygen_confirm"); got["status"] != "success" {
		t.Fatalf("keygen_confirm = %v", got)
	}
	// The node returns the shares.
	alice.send("sign_request", object{"key_id": keyID, "data": "x", "account_addr": address, "participants": partUsers[:2]})
	for i, s := range parts[:2] {
		s.expect("sign_invite")
		s.send("sign_response", object{"key_id": keyID, "part_index": i + 1, "response": true})
	}
	for i, s := range parts[:2] {
		if got := s.expect("sign_params"); got["share_json"] != made.saves[i] {
			t.Errorf("part %d gets another share back", i+1)
		}
	}

	rec := h.recording(k)
	gives := func(recording [][]byte) bool {
		places, values := sharesIn(recording)
		private, ok := atZero(curveOrder(pubkey.Ed25519), 2, places, values)
		return ok && fits(pubkey.Ed25519, private, made.public)
	}
	if !gives(rec.frames) {
		t.Error("the node's frames do not give the key: the table in deploy/docs/SECURITY.md can say so")
	}
	stored := slices.Concat(rec.redis, rec.logs)
	secrets := map[string]*big.Int{}
	_, values := sharesIn(rec.frames)
	for i, value := range values {
		secrets[fmt.Sprint("share ", i)] = value
	}
	if len(secrets) != 3 {
		t.Errorf("the frames hold %d shares, want three", len(secrets))
	}
	if found := leaks(stored, secrets, map[string]string{"the nodes' key for shares": testKEK}); len(found) != 0 || gives(stored) {
		t.Errorf("Redis and the logs hold %s", strings.Join(found, "; "))
	}
	if !gives(decrypted(t, stored, keyID)) {
		t.Error("Redis and the key for shares do not give the key: the table in deploy/docs/SECURITY.md can say so")
	}
}

// decrypted returns the shares of a key in a recording that open with the nodes' key
// for shares.
func decrypted(t *testing.T, recording [][]byte, keyID string) [][]byte {
	t.Helper()
	kek, err := base64.StdEncoding.DecodeString(testKEK)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(kek)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	var open [][]byte
	for _, text := range recording {
		for _, m := range regexp.MustCompile(`kek1:([A-Za-z0-9+/]+=*)`).FindAllSubmatch(text, -1) {
			ct, err := base64.StdEncoding.DecodeString(string(m[1]))
			if err != nil {
				continue
			}
			for part := range 3 {
				place := fmt.Sprintf("conclave share\x00%s\x00%s", keyID, strconv.Itoa(part+1))
				if plain, err := aead.Open(nil, nil, ct, []byte(place)); err == nil {
					open = append(open, plain)
				}
			}
		}
	}
	return open
}
