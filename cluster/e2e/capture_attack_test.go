package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/bnb-chain/tss-lib/v2/crypto"
	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	eddsakeygen "github.com/bnb-chain/tss-lib/v2/eddsa/keygen"
	"github.com/bnb-chain/tss-lib/v2/tss"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-mpc/conclave/session/pubkey"
)

// The attack with a recording made at a server. tss-lib's keygen sends each party's
// polynomial point by point to the others; with enough points of all parties the
// polynomials can be added up at 0, which is the key.

// sighting is one captured message of a keygen: from which part to which.
type sighting struct {
	from, to int
	body     []byte
}

// readings are the possible forms of a body: a message as tss-lib sends it, its bare
// content, and content after the two bytes that begin a body of ours.
var readings = []func(body []byte) (share *big.Int, ok bool){
	func(body []byte) (*big.Int, bool) {
		msg, err := tss.ParseWireMessage(body, tss.NewPartyID("x", "x", big.NewInt(1)), false)
		if err != nil {
			return nil, false
		}
		switch m := msg.Content().(type) {
		case *eddsakeygen.KGRound2Message1:
			return m.UnmarshalShare(), true
		case *ecdsakeygen.KGRound2Message1:
			return m.UnmarshalShare(), true
		}
		return nil, false
	},
	bareShare,
	func(body []byte) (*big.Int, bool) { return bareShare(body[min(2, len(body)):]) },
}

// bareShare reads a content; the one relevant field is the same on both curves.
func bareShare(content []byte) (*big.Int, bool) {
	var m ecdsakeygen.KGRound2Message1
	if proto.Unmarshal(content, &m) != nil || len(m.GetShare()) == 0 || len(m.GetShare()) > 32 {
		return nil, false
	}
	return m.UnmarshalShare(), true
}

var errNoKey = errors.New("the recording does not give the key")

// recoverKey computes a private key from sightings of its keygen. places is the
// position of each part's share, which is not secret.
func recoverKey(curve pubkey.Curve, threshold int, places map[int]*big.Int, seen []sighting, public *crypto.ECPoint) (*big.Int, error) {
	order := curveOrder(curve)
	for _, reading := range readings {
		points := map[int]map[int]*big.Int{} // by sender, then by receiver
		for _, s := range seen {
			if share, ok := reading(s.body); ok && places[s.to] != nil {
				if points[s.from] == nil {
					points[s.from] = map[int]*big.Int{}
				}
				points[s.from][s.to] = share
			}
		}
		sum := new(big.Int)
		for part := range places {
			constant, ok := atZero(order, threshold, places, points[part])
			if !ok {
				sum = nil
				break
			}
			sum.Mod(sum.Add(sum, constant), order)
		}
		if sum != nil && fits(curve, sum, public) {
			return sum, nil
		}
	}
	return nil, errNoKey
}

// atZero interpolates a polynomial at 0 from the required number of points.
func atZero(order *big.Int, threshold int, places, values map[int]*big.Int) (*big.Int, bool) {
	if len(values) < threshold {
		return nil, false
	}
	var parts []int
	for part := range values {
		parts = append(parts, part)
	}
	slices.Sort(parts)
	parts = parts[:threshold]
	sum := new(big.Int)
	for _, i := range parts {
		num, den := big.NewInt(1), big.NewInt(1)
		for _, j := range parts {
			if i != j {
				num.Mod(num.Mul(num, places[j]), order)
				den.Mod(den.Mul(den, new(big.Int).Sub(places[j], places[i])), order)
			}
		}
		term := num.Mul(num, den.ModInverse(den, order))
		sum.Mod(sum.Add(sum, term.Mul(term, values[i])), order)
	}
	return sum, true
}

func curveOrder(curve pubkey.Curve) *big.Int {
	if curve == pubkey.Ed25519 {
		return tss.Edwards().Params().N
	}
	return tss.S256().Params().N
}

// fits reports whether a number is the private key of a public key.
func fits(curve pubkey.Curve, private *big.Int, public *crypto.ECPoint) bool {
	if private.Sign() == 0 {
		return false
	}
	ec := tss.S256()
	if curve == pubkey.Ed25519 {
		ec = tss.Edwards()
	}
	return crypto.ScalarBaseMult(ec, private).Equals(public)
}

// sharesIn finds shares as tss-lib saves them, unencrypted, anywhere in a recording:
// positions on the polynomial, and values.
func sharesIn(recording [][]byte) (places, values map[int]*big.Int) {
	places, values = map[int]*big.Int{}, map[int]*big.Int{}
	known := map[string]bool{}
	for _, layer := range peel(recording) {
		for _, m := range savedShare.FindAllSubmatch(layer, -1) {
			if place := string(m[2]); !known[place] {
				known[place] = true
				values[len(known)], _ = new(big.Int).SetString(string(m[1]), 10)
				places[len(known)], _ = new(big.Int).SetString(place, 10)
			}
		}
	}
	return places, values
}

var savedShare = regexp.MustCompile(`"Xi":(\d+),"ShareID":(\d+)`)

// roundsIn finds the round messages in a recording of any kind: frames, and traffic
// to and from Redis.
func roundsIn(recording [][]byte) []sighting {
	var seen []sighting
	pattern := regexp.MustCompile(`"from":(\d+),"to":(\d+),"body":"([^"]+)"`)
	for _, text := range recording {
		for _, m := range pattern.FindAllSubmatch(text, -1) {
			from, _ := strconv.Atoi(string(m[1]))
			to, _ := strconv.Atoi(string(m[2]))
			if body, err := base64.StdEncoding.DecodeString(string(m[3])); err == nil {
				seen = append(seen, sighting{from, to, body})
			}
		}
	}
	return seen
}

var (
	base64Run = regexp.MustCompile(`[A-Za-z0-9+/_-]{24,}`)
	hexRun    = regexp.MustCompile(`[0-9a-fA-F]{32,}`)
)

// peel returns a recording with everything encoded in it: JSON within JSON, base64
// and hex, nested too. Duplicates are processed once.
func peel(recording [][]byte) [][]byte {
	known := map[string]bool{}
	fresh := func(text []byte) bool {
		old := known[string(text)]
		known[string(text)] = true
		return !old
	}
	all, layer := [][]byte(nil), recording
	for range 3 {
		var next [][]byte
		for _, text := range layer {
			if flat := bytes.ReplaceAll(bytes.ReplaceAll(text, []byte(`\"`), []byte(`"`)), []byte(`\\`), []byte(`\`)); !bytes.Equal(flat, text) && fresh(flat) {
				next = append(next, flat)
			}
			for _, run := range base64Run.FindAll(text, -1) {
				if fresh(run) {
					next = append(next, decodings(run)...)
				}
			}
			for _, run := range hexRun.FindAll(text, -1) {
				if raw, err := hex.DecodeString(string(run[:len(run)/2*2])); err == nil && fresh(raw) {
					next = append(next, raw)
				}
			}
		}
		all, layer = append(all, layer...), next
	}
	return append(all, layer...)
}

// decodings are the possible decodings of a run of base64: it may begin with
// characters of something else.
func decodings(run []byte) [][]byte {
	var all [][]byte
	for skip := range 4 {
		cut := run[skip:]
		cut = cut[:len(cut)/4*4]
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			if raw, err := enc.DecodeString(string(cut)); err == nil {
				all = append(all, raw)
				break
			}
		}
	}
	return all
}

// number returns the encodings of a secret number, by name.
func number(n *big.Int) map[string][]byte {
	b := n.FillBytes(make([]byte, max(32, (n.BitLen()+7)/8)))
	little := slices.Clone(b)
	slices.Reverse(little)
	return map[string][]byte{
		"raw": b, "little endian": little, "decimal": []byte(n.String()),
		"hex": []byte(hex.EncodeToString(b)), "HEX": []byte(fmt.Sprintf("%X", b)),
		"base64": []byte(base64.RawStdEncoding.EncodeToString(b)), "base64url": []byte(base64.RawURLEncoding.EncodeToString(b)),
	}
}

// leaks looks for secrets in a recording, and returns those found.
func leaks(recording [][]byte, secrets map[string]*big.Int, texts map[string]string) []string {
	var found []string
	layers := peel(recording)
	look := func(name string, form []byte) {
		if slices.ContainsFunc(layers, func(l []byte) bool { return bytes.Contains(l, form) }) {
			found = append(found, name)
		}
	}
	for name, n := range secrets {
		for form, b := range number(n) {
			look(name+", "+form, b)
		}
	}
	for name, text := range texts {
		look(name, []byte(text))
	}
	slices.Sort(found)
	return found
}

// TestLeaksAreFound plants a secret in each form that leaks searches for, alone and
// embedded.
func TestLeaksAreFound(t *testing.T) {
	t.Parallel()
	secret, _ := new(big.Int).SetString("8a5c0d1e2f3041526374859607a8b9cadbecfd0e1f30415263748596a7b8c9da", 16)
	secrets := map[string]*big.Int{"it": secret}
	for form, b := range number(secret) {
		frame, _ := json.Marshal(map[string]any{"payload": map[string]string{"body": base64.StdEncoding.EncodeToString(slices.Concat([]byte("before"), b, []byte("after")))}})
		wrapped, _ := json.Marshal(map[string]string{"share_json": string(frame)})
		for name, recording := range map[string][]byte{
			"itself":        b,
			"among others":  slices.Concat([]byte(`"text":"`), b, []byte(`"`)),
			"in a frame":    frame,
			"in JSON in it": wrapped,
			"in hex":        []byte(hex.EncodeToString(b)),
		} {
			if len(leaks([][]byte{[]byte("nothing"), recording}, secrets, nil)) == 0 {
				t.Errorf("%s, %s: not found", form, name)
			}
		}
	}
	if found := leaks([][]byte{[]byte("nothing"), secret.Bytes()[1:]}, secrets, nil); len(found) != 0 {
		t.Errorf("found what is not there: %v", found)
	}
}
