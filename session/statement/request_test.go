package statement

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

func fresh(t testing.TB) *identity.Identity {
	t.Helper()
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// mixed is a consistent identity of the signing key of one and the sealing key of
// another.
func mixed(t testing.TB, sign, seal *identity.Identity) *identity.Identity {
	t.Helper()
	first, err := sign.Secret()
	if err != nil {
		t.Fatal(err)
	}
	second, err := seal.Secret()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(first, "\n")
	lines[2] = strings.SplitAfter(second, "\n")[2]
	id, err := identity.Parse(strings.Join(lines, ""))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func keygenRequest() Request {
	return Request{
		Kind: "keygen", Coordinator: "alice", KeyID: "key-1", Epoch: 1, Curve: pubkey.Secp256k1, Threshold: 2, Participants: []string{"bob", "carol", "dave"},
	}
}

func signRequest() Request {
	return Request{
		Kind: "sign", Coordinator: "alice", SessionID: "sg-1", KeyID: "key-1", Epoch: 1, Curve: pubkey.Ed25519, Participants: []string{"dave", "bob"},
		Data: "pay bob", Hash: "none", Digest: "0x70617920626f62", AccountAddr: "586Z7H2vpX9qNhN2T4e9Utugie3ogjbxzGaMtM3E6HR5",
	}
}

func reshareRequest(t testing.TB) Request {
	t.Helper()
	first := firstGeneration(t)
	return Request{
		Kind: Reshare, Coordinator: "alice", SessionID: "rs-1", KeyID: "key-1", Epoch: 1, Curve: pubkey.Ed25519, Threshold: 2,
		Members: first.Epoch.Members, AccountAddr: first.Epoch.AccountAddr, Parent: first.Hash().String(),
	}
}

var requestTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func signedRequest(t testing.TB, id *identity.Identity, r Request) SignedRequest {
	t.Helper()
	s, err := r.Sign(id, requestTime, requestTime.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseSignedRequest(s.String())
	if err != nil || again != s {
		t.Fatalf("the text form gives something else: %v", err)
	}
	return again
}

func TestSignedRequest(t *testing.T) {
	t.Parallel()
	id := fresh(t)
	for _, r := range []Request{keygenRequest(), signRequest(), reshareRequest(t)} {
		s := signedRequest(t, id, r)
		if err := s.Verify(r, nil); err != nil || s.Identity != id.Public() || s.EveryHolder {
			t.Errorf("%s: %v, every holder %t", r.Kind, err, s.EveryHolder)
		}
		if other := signedRequest(t, id, r); other.ID() == s.ID() || other.Nonce == s.Nonce {
			t.Error("two requests have the same nonce")
		}
		if err := signedRequest(t, fresh(t), r).Verify(r, nil); err != nil {
			t.Error(err)
		}
	}
	// The order is irrelevant for a signing; for a keygen it is the part indexes.
	r := signRequest()
	s := signedRequest(t, id, r)
	slices.Reverse(r.Participants)
	if err := s.Verify(r, nil); err != nil {
		t.Errorf("order of a signing's participants: %v", err)
	}
}

// changes lists every way in which one field of a struct can be changed. It enumerates
// the struct's fields, so that a new one cannot be forgotten. The stranger is another
// member's identity.
func changes(v reflect.Value, stranger *identity.Identity) map[string]func(reflect.Value) {
	all := map[string]func(reflect.Value){}
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		set := func(how string, f func(reflect.Value)) {
			all[name+" "+how] = func(v reflect.Value) { f(v.Field(i)) }
		}
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			set("changed", func(f reflect.Value) { f.SetString(f.String() + "x") })
			if f.String() != "" {
				set("left out", func(f reflect.Value) { f.SetString("") })
				set("cut", func(f reflect.Value) { f.SetString(f.String()[1:]) })
			}
		case reflect.Int:
			set("more", func(f reflect.Value) { f.SetInt(f.Int() + 1) })
			set("less", func(f reflect.Value) { f.SetInt(f.Int() - 1) })
		case reflect.Slice:
			if members, ok := f.Interface().([]identity.Member); ok {
				if len(members) == 0 {
					break
				}
				set("one less", func(f reflect.Value) { f.Set(f.Slice(0, f.Len()-1)) })
				set("none", func(f reflect.Value) { f.SetZero() })
				for how, change := range map[string]func(m []identity.Member){
					"in another order": func(m []identity.Member) {
						m[0], m[1] = m[1], m[0]
						m[0].Index, m[1].Index = 1, 2
					},
					"with another user":     func(m []identity.Member) { m[1].User = "eve" },
					"with another identity": func(m []identity.Member) { m[1].Identity = stranger.Public() },
				} {
					set(how, func(f reflect.Value) {
						other := slices.Clone(members)
						change(other)
						f.Set(reflect.ValueOf(other))
					})
				}
				break
			}
			set("one more", func(f reflect.Value) { f.Set(reflect.ValueOf(append(f.Interface().([]string), "eve"))) })
			if f.Len() == 0 {
				break
			}
			set("one less", func(f reflect.Value) { f.Set(f.Slice(0, f.Len()-1)) })
			set("none", func(f reflect.Value) { f.SetZero() })
			set("another", func(f reflect.Value) { f.Index(0).SetString("eve") })
			set("joined", func(f reflect.Value) {
				list := f.Interface().([]string)
				f.Set(reflect.ValueOf(append([]string{list[0] + list[1]}, list[2:]...)))
			})
		default:
			panic("a field of a kind that this test cannot change: " + name)
		}
	}
	return all
}

// TestEveryFieldIsSigned changes each field of each kind of request.
func TestEveryFieldIsSigned(t *testing.T) {
	t.Parallel()
	id, stranger := fresh(t), fresh(t)
	reshare := reshareRequest(t)
	for _, make := range []func() Request{keygenRequest, signRequest, func() Request { return reshare }} {
		good := make()
		s := signedRequest(t, id, good)
		whole := s.statement(good)
		cases := changes(reflect.ValueOf(good), stranger)
		delete(cases, "Epoch less") // 0 means 1
		cases["Kind the other"] = func(v reflect.Value) {
			kind := map[string]string{"sign": "keygen", "keygen": "reshare", "reshare": "sign"}[good.Kind]
			v.FieldByName("Kind").SetString(kind)
		}
		cases["Curve the other"] = func(v reflect.Value) {
			curve := map[pubkey.Curve]pubkey.Curve{pubkey.Ed25519: pubkey.Secp256k1, pubkey.Secp256k1: pubkey.Ed25519}[good.Curve]
			v.FieldByName("Curve").SetString(string(curve))
		}
		if good.Kind == "keygen" {
			cases["Participants in another order"] = func(v reflect.Value) { slices.Reverse(v.FieldByName("Participants").Interface().([]string)) }
		}
		for name, change := range cases {
			r := make()
			change(reflect.ValueOf(&r).Elem())
			// What a kind does not have, it does not sign; such a request is refused.
			field, _, _ := strings.Cut(name, " ")
			if bytes.Equal(s.statement(r), whole) && !reflect.ValueOf(good).FieldByName(field).IsZero() {
				t.Errorf("%s: %s: the same is signed", good.Kind, name)
			}
			if err := s.Verify(r, []string{"bob", "carol", "dave"}); err == nil {
				t.Errorf("%s: %s: accepted", good.Kind, name)
			}
		}
		// A byte between two fields belongs to one of them.
		r := make()
		r.Coordinator, r.KeyID = r.Coordinator+r.KeyID[:1], r.KeyID[1:]
		if s.Verify(r, nil) == nil {
			t.Error("a letter moved from one field to the next")
		}
	}
}

// TestEveryPartOfSignedRequest changes each part of the text form.
func TestEveryPartOfSignedRequest(t *testing.T) {
	t.Parallel()
	id, other := fresh(t), fresh(t)
	r := signRequest()
	good := signedRequest(t, id, r)
	strange := signedRequest(t, other, r)
	cases := map[string]func(s *SignedRequest){
		"Identity":    func(s *SignedRequest) { s.Identity = other.Public() },
		"seal":        func(s *SignedRequest) { s.Identity = mixed(t, id, other).Public() },
		"IssuedAt":    func(s *SignedRequest) { s.IssuedAt = s.IssuedAt.Add(time.Second) },
		"ExpiresAt":   func(s *SignedRequest) { s.ExpiresAt = s.ExpiresAt.Add(time.Second) },
		"Nonce":       func(s *SignedRequest) { s.Nonce[0] ^= 1 },
		"EveryHolder": func(s *SignedRequest) { s.EveryHolder = true },
		"v1":          func(s *SignedRequest) { s.v1 = true },
		"sig":         func(s *SignedRequest) { s.sig[0] ^= 1 },
		"another sig": func(s *SignedRequest) { s.sig = strange.sig },
	}
	for i := range reflect.TypeFor[SignedRequest]().NumField() {
		if name := reflect.TypeFor[SignedRequest]().Field(i).Name; cases[name] == nil {
			t.Errorf("%s is not tried", name)
		}
	}
	for name, change := range cases {
		s := good
		change(&s)
		if err := s.Verify(r, r.Participants); err == nil {
			t.Errorf("%s changed: accepted", name)
		}
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(good.String(), requestPrefix))
	if err != nil {
		t.Fatal(err)
	}
	raw[requestSize-ed25519.SignatureSize-1] = 2
	for name, text := range map[string]string{
		"nothing":         "",
		"neither 0 nor 1": requestPrefix + base64.RawURLEncoding.EncodeToString(raw),
		"a prefix":        requestPrefix,
		"the one before":  strings.Replace(good.String(), "req2", "req1", 1) + "A",
		"another version": strings.Replace(good.String(), "req2", "req3", 1),
		"cut":             good.String()[:len(good.String())-1],
		"longer":          good.String() + "A",
		"a line break":    good.String()[:100] + "\n" + good.String()[101:],
		"another keypair": requestPrefix + strings.Repeat("A", requestTextSize-len(requestPrefix)),
	} {
		if _, err := ParseSignedRequest(text); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

// TestEveryHolder: a request without participants is for all holders, and a reader that
// does not know them cannot verify it.
func TestEveryHolder(t *testing.T) {
	t.Parallel()
	r := signRequest()
	r.Participants = nil
	s := signedRequest(t, fresh(t), r)
	if !s.EveryHolder {
		t.Fatal("the request does not say so")
	}
	holders := []string{"bob", "carol", "dave"}
	for name, tc := range map[string]struct {
		shown, holders []string
		ok             bool
	}{
		"all":              {holders, holders, true},
		"in another order": {[]string{"dave", "bob", "carol"}, holders, true},
		"one left out":     {holders[:2], holders, false},
		"one twice":        {[]string{"bob", "bob", "carol"}, holders, false},
		"a stranger":       {[]string{"bob", "carol", "eve"}, holders, false},
		"holders unknown":  {holders, nil, false},
		"nobody":           {nil, nil, false},
	} {
		r.Participants = tc.shown
		if err := s.Verify(r, tc.holders); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A signed list is not accepted as all holders.
	r.Participants = holders
	listed := signedRequest(t, fresh(t), r)
	listed.EveryHolder = true
	if listed.Verify(r, holders) == nil {
		t.Error("a signed list passes for none")
	}
}

// TestReshareRequestIsRefused: such requests are not signed, and not shown as signed.
func TestReshareRequestIsRefused(t *testing.T) {
	t.Parallel()
	id := fresh(t)
	good := reshareRequest(t)
	s := signedRequest(t, id, good)
	for name, change := range map[string]func(r *Request){
		"no session":                func(r *Request) { r.SessionID = "" },
		"participants":              func(r *Request) { r.Participants = []string{"bob", "carol", "dave"} },
		"something to sign":         func(r *Request) { r.Data = "pay bob" },
		"no address":                func(r *Request) { r.AccountAddr = "" },
		"no address of its curve":   func(r *Request) { r.AccountAddr = "0x00" },
		"no members":                func(r *Request) { r.Members = nil },
		"a threshold of 1":          func(r *Request) { r.Threshold = 1 },
		"a threshold above all":     func(r *Request) { r.Threshold = 4 },
		"parts with a gap":          func(r *Request) { r.Members = slices.Delete(slices.Clone(r.Members), 1, 2) },
		"one identity twice":        func(r *Request) { r.Members = slices.Clone(r.Members); r.Members[1].Identity = r.Members[0].Identity },
		"a member without identity": func(r *Request) { r.Members = slices.Clone(r.Members); r.Members[1].Identity = identity.Public{} },
		"a hash that is none":       func(r *Request) { r.Parent = "0x00" },
		"no parent of epoch 2":      func(r *Request) { r.Epoch, r.Parent = 2, "" },
	} {
		r := good
		change(&r)
		if _, err := r.Sign(id, requestTime, requestTime.Add(time.Hour)); err == nil {
			t.Errorf("%s: signed", name)
		}
		if s.Verify(r, nil) == nil {
			t.Errorf("%s: verified", name)
		}
	}
	for name, r := range map[string]Request{"keygen": keygenRequest(), "sign": signRequest()} {
		r.Members = good.Members
		if _, err := r.Sign(id, requestTime, requestTime.Add(time.Hour)); err == nil {
			t.Errorf("%s with members: signed", name)
		}
		r.Members, r.Parent = nil, good.Parent
		if _, err := r.Sign(id, requestTime, requestTime.Add(time.Hour)); err == nil {
			t.Errorf("%s with a parent: signed", name)
		}
	}
	// A key of before certificates has epoch 1 and no hash.
	good.Parent = ""
	if err := signedRequest(t, id, good).Verify(good, nil); err != nil {
		t.Error(err)
	}
	old := s
	old.v1 = true
	if old.Verify(reshareRequest(t), nil) == nil {
		t.Error("the first format has a reshare")
	}
}

func TestRequestTimes(t *testing.T) {
	t.Parallel()
	id := fresh(t)
	s := signedRequest(t, id, keygenRequest())
	for at, ok := range map[time.Duration]bool{
		0: true, time.Hour - time.Second: true,
		time.Hour + RequestClockTolerance - time.Second: true, time.Hour + RequestClockTolerance: false,
		-RequestClockTolerance: true, -RequestClockTolerance - time.Second: false, 24 * time.Hour: false,
	} {
		if err := s.Current(requestTime.Add(at)); (err == nil) != ok {
			t.Errorf("at %s: %v", at, err)
		}
	}
	for name, life := range map[string]time.Duration{"no time": 0, "backwards": -time.Second, "too long": MaxRequestLife + time.Second} {
		if _, err := keygenRequest().Sign(id, requestTime, requestTime.Add(life)); err == nil {
			t.Errorf("%s: signed", name)
		}
		forged := s
		forged.ExpiresAt = requestTime.Add(life)
		if _, err := ParseSignedRequest(forged.String()); err == nil {
			t.Errorf("%s: read", name)
		}
	}
	if _, err := keygenRequest().Sign(nil, requestTime, requestTime.Add(time.Hour)); err == nil {
		t.Error("signed without an identity")
	}
	if _, err := (Request{Kind: "sign"}).Sign(id, requestTime, requestTime.Add(time.Hour)); err == nil {
		t.Error("an empty request was signed")
	}
}

// FuzzSignedRequest: text that parses is unique, and valid only for the request that it
// was made for.
func FuzzSignedRequest(f *testing.F) {
	id := fresh(f)
	r := signRequest()
	good := signedRequest(f, id, r).String()
	f.Add(good, r.Data, r.KeyID)
	f.Add(good[:len(good)-1]+"A", r.Data, r.KeyID)
	f.Add(good, "pay eve", r.KeyID)
	f.Add("conclave-req1.", "", "")
	f.Add("conclave-req2.", "", "")
	f.Fuzz(func(t *testing.T, text, data, key string) {
		s, err := ParseSignedRequest(text)
		if err != nil {
			return
		}
		if s.String() != text {
			t.Error("two texts for one signed request")
		}
		other := r
		other.Data, other.KeyID = data, key
		// Fuzzing runs in several processes, each with its own identity, and the seeds
		// of one reach the others: anyone can sign as themselves.
		forged := data != r.Data || key != r.KeyID || text != good && s.Identity == id.Public()
		if err := s.Verify(other, r.Participants); err == nil && forged {
			t.Error("a forgery verifies")
		}
		_ = s.Current(requestTime)
	})
}

// TestLargestSignedRequest builds the longest signed_request that there may be: what
// one carries today, the whole identities of a reshare's committee, and the digest,
// path and document digest of each item of a batch.
func TestLargestSignedRequest(t *testing.T) {
	t.Parallel()
	text := signedRequest(t, fresh(t), signRequest()).String()
	if len(text) != requestTextSize || len(text) > 2<<10 {
		t.Errorf("a signed request has %d bytes", len(text))
	}
	id := fresh(t).Public().String()
	if len(id) > wire.MaxIdentityBytes || len(id) < wire.MaxIdentityBytes*3/4 {
		t.Errorf("an identity has %d bytes, and may have %d", len(id), wire.MaxIdentityBytes)
	}
	if attestationTextSize > wire.MaxAttestationBytes || attestationTextSize < wire.MaxAttestationBytes*2/3 {
		t.Errorf("an attestation has %d bytes, and may have %d", attestationTextSize, wire.MaxAttestationBytes)
	}
	for range wire.DefaultMaxParties {
		text += "." + id
	}
	digest := "0x" + strings.Repeat("f", 64)
	path := "m" + strings.Repeat("/2147483647", 11) // no wallet's is longer
	for range wire.MaxBatchItems {
		text += "." + strings.Join([]string{digest, path, digest}, ",")
	}
	if len(text) > wire.MaxSignedRequestBytes || len(text) < wire.MaxSignedRequestBytes*3/4 {
		t.Errorf("the largest signed request has %d bytes, and may have %d", len(text), wire.MaxSignedRequestBytes)
	}
}
