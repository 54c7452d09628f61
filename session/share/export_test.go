package share

import (
	"bytes"
	"encoding/json"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/conclave-mpc/conclave/session/internal/tss"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

// Plain returns the plaintext of a sealed share, as generic JSON.
func Plain(s *Share) map[string]any {
	data, err := s.plain()
	if err != nil {
		panic(err)
	}
	var out map[string]any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // the numbers are long
	if err := d.Decode(&out); err != nil {
		panic(err)
	}
	return out
}

// SealPlain makes a share_json with any public part outside and anything inside.
func SealPlain(public, plain any, owner age.Recipient) string {
	outside, err := json.Marshal(public)
	if err != nil {
		panic(err)
	}
	var fields map[string]any
	d := json.NewDecoder(bytes.NewReader(outside))
	d.UseNumber()
	if err := d.Decode(&fields); err != nil {
		panic(err)
	}
	inside, err := json.Marshal(plain)
	if err != nil {
		panic(err)
	}
	var sealed strings.Builder
	armored := armor.NewWriter(&sealed)
	w, err := age.Encrypt(armored, owner)
	if err != nil {
		panic(err)
	}
	if _, err := w.Write(inside); err != nil {
		panic(err)
	}
	if w.Close() != nil || armored.Close() != nil {
		panic("close")
	}
	fields["sealed"] = sealed.String()
	out, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return string(out)
}

// Secret is the share's secret number, which must not be shown anywhere.
func Secret(s *Share) string {
	if s.secret.ECDSA != nil {
		return s.secret.ECDSA.Xi.String()
	}
	return s.secret.EdDSA.Xi.String()
}

// PlainJSON returns the plaintext of a sealed share.
func PlainJSON(s *Share) []byte {
	data, err := s.plain()
	if err != nil {
		panic(err)
	}
	return data
}

// OpenPlain is Open after age.
func OpenPlain(plain []byte, outside Public) (*Share, error) { return openPlain(plain, &outside) }

// Combine reports whether the secret numbers of some shares, combined as if they were of
// one epoch, are the private key.
func Combine(shares ...*Share) bool {
	var secrets []*tss.Secret
	for _, s := range shares {
		secrets = append(secrets, s.secret)
	}
	sum := tss.Rebuild(shares[0].public.Curve, secrets)
	public, err := pubkey.Decode(shares[0].public.PublicKey)
	if err != nil {
		panic(err)
	}
	k := &PrivateKey{curve: shares[0].public.Curve, public: public, scalar: new(new([32]byte))}
	sum.FillBytes(k.bytes()[:])
	return k.check() == nil
}
