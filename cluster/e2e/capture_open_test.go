package e2e_test

import (
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/bnb-chain/tss-lib/v2/crypto"
	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	eddsakeygen "github.com/bnb-chain/tss-lib/v2/eddsa/keygen"

	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// The test knows more than the attacker: here it opens, with the participants'
// identities, their sealed data. It reimplements the format documented by package
// party, without that package's code.

// openShare returns the plaintext of a share.
func (h *hostile) openShare(user, sealed string) string {
	h.t.Helper()
	var s struct{ Sealed string }
	if err := json.Unmarshal([]byte(sealed), &s); err != nil {
		h.t.Fatal(err)
	}
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(s.Sealed)), h.p[user].cfg.Identity)
	if err != nil {
		h.t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(text)
}

// private returns an identity's signing and sealing keys and the text of its age
// key.
func (h *hostile) private(user string) (sign, seal []byte, own string) {
	h.t.Helper()
	text, err := h.p[user].cfg.Identity.Secret()
	if err != nil {
		h.t.Fatal(err)
	}
	lines := strings.Split(text, "\n")
	sign, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "sign "))
	if err == nil {
		seal, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[2], "seal "))
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return sign, seal, strings.TrimPrefix(lines[3], "age ")
}

// secrets returns the participants' secrets: their shares of a key, their
// identities, and the shares' positions on the polynomials.
func (h *hostile) secrets(key client.Key) (places map[int]*big.Int, numbers map[string]*big.Int, texts map[string]string, public *crypto.ECPoint) {
	h.t.Helper()
	places, numbers, texts = map[int]*big.Int{}, map[string]*big.Int{}, map[string]string{"the nodes' secret": testSecret}
	for i, user := range partUsers {
		sealed, _ := h.share(user, key)
		var open struct {
			Secret struct {
				ECDSA *ecdsakeygen.LocalPartySaveData
				EdDSA *eddsakeygen.LocalPartySaveData
			}
		}
		if err := json.Unmarshal([]byte(h.openShare(user, sealed)), &open); err != nil {
			h.t.Fatal(err)
		}
		if s := open.Secret.EdDSA; s != nil {
			places[i+1], numbers["the share of "+user], public = s.ShareID, s.Xi, s.EDDSAPub
		} else {
			s := open.Secret.ECDSA
			places[i+1], numbers["the share of "+user], public = s.ShareID, s.Xi, s.ECDSAPub
			numbers["a Paillier prime of "+user] = s.PaillierSK.P
		}
		sign, seal, own := h.private(user)
		numbers["the signing key of "+user] = new(big.Int).SetBytes(sign)
		numbers["the sealing key of "+user] = new(big.Int).SetBytes(seal)
		texts["the age key of "+user] = own
	}
	return places, numbers, texts, public
}

// keygenSightings returns the round messages of a keygen as captured, and again with
// the sealed ones opened by their recipients.
func (h *hostile) keygenSightings(key client.Key) (sealed, opened []sighting) {
	h.t.Helper()
	_, public := h.share("bob", key)
	for _, f := range h.since(0) {
		w, ok := read[wire.TSSMessage](f.m)
		if !ok || f.up || w.SessionID != key.SessionID {
			continue
		}
		m := roundOf(w)
		to := 1
		for partUsers[to-1] != f.user {
			to++
		}
		sealed = append(sealed, sighting{m.From, to, m.Body})
		if m.To == 0 {
			continue
		}
		_, seal, _ := h.private(f.user)
		content, err := unseal(seal, runOf(public, w), string(key.Curve), m)
		if err != nil {
			h.t.Fatalf("what part %d sent part %d is not sealed to it: %v", m.From, m.To, err)
		}
		opened = append(opened, sighting{m.From, to, content})
	}
	return sealed, opened
}

// unseal opens a keygen's point-to-point message.
func unseal(seal []byte, run [sha256.Size]byte, curve string, m party.Message) ([]byte, error) {
	private, err := hpke.MLKEM768X25519().NewPrivateKey(seal)
	if err != nil {
		return nil, err
	}
	library := map[string]string{"ed25519": "eddsa", "secp256k1": "ecdsa"}[curve]
	var info listing
	info.bytes([]byte("conclave/party/sealed/v1"))
	info.bytes(run[:])
	info.bytes([]byte(library + "/keygen/2-share"))
	info.number(m.From)
	info.number(m.To)
	return hpke.Open(private, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), info, m.Body[2:])
}

// runOf is the hash that identifies a keygen in its seals and signatures.
func runOf(p share.Public, m *wire.TSSMessage) [sha256.Size]byte {
	var l listing
	for _, text := range []string{"conclave/party/run/v2", "keygen", m.SessionID} {
		l.bytes([]byte(text))
	}
	l.number(m.Attempt)
	l.bytes([]byte(p.KeyID))
	l.bytes([]byte(p.Curve))
	l.number(p.Epoch)
	l.number(p.Threshold)
	l.number(p.TotalParts)
	l.number(len(p.Parties))
	for _, member := range p.Parties {
		_, text, _ := strings.Cut(member.Identity.String(), ".")
		raw, _ := base64.RawURLEncoding.DecodeString(text)
		l.number(member.Index)
		l.bytes([]byte(member.User))
		l.bytes(raw[:32])
		l.bytes(raw[32 : len(raw)-64])
	}
	l.bytes(nil)
	l.bytes(nil)
	return sha256.Sum256(l)
}

// listing is a list of values in package party's encoding.
type listing []byte

func (l *listing) bytes(b []byte) {
	*l = append(binary.BigEndian.AppendUint32(*l, uint32(len(b))), b...)
}
func (l *listing) number(n int) { *l = binary.BigEndian.AppendUint64(*l, uint64(n)) }

// approvedOnly checks that every signature in a recording is over approved data.
func (h *hostile) approvedOnly(rec recording, key client.Key, approved []string) {
	h.t.Helper()
	signed := map[string]bool{}
	for _, text := range rec.all() {
		for _, m := range regexp.MustCompile(`0x([0-9a-f]{128}|[0-9a-f]{130})\b`).FindAll(text, -1) {
			sig, err := pubkey.Decode(string(m))
			if err != nil {
				h.t.Fatal(err)
			}
			over := ""
			for _, data := range approved {
				digest, _, err := pubkey.Digest(key.Curve, data, "")
				if err != nil {
					h.t.Fatal(err)
				}
				if _, _, err := key.Curve.CompleteFor(key.AccountAddr, digest, sig); err == nil {
					over = data
				}
			}
			if over == "" {
				h.t.Errorf("there is a signature over nothing that was approved: %s", m)
			}
			signed[over] = true
		}
	}
	if len(signed) != len(approved) {
		h.t.Errorf("signatures over %d of %d that were approved", len(signed), len(approved))
	}
}

// freshNonces checks that no party has sent the same round message in two sessions:
// a nonce used twice reveals the key.
func (h *hostile) freshNonces() {
	h.t.Helper()
	sessions := map[string]string{}
	for _, m := range sentBy[wire.TSSMessage](h, 0, "") {
		at := fmt.Sprintf("%d to %d: %s", m.From, m.To, m.Body)
		if other, ok := sessions[at]; ok && other != m.SessionID {
			h.t.Errorf("part %d has sent one message in two sessions", m.From)
		}
		sessions[at] = m.SessionID
	}
}
