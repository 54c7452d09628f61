package auth_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// server is a JWKS endpoint that a test changes.
type server struct {
	*httptest.Server
	asked atomic.Int64

	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request)
}

func newServer(t *testing.T) *server {
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		s.mu.Lock()
		answer := s.answer
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) say(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *server) serve(body []byte) {
	s.say(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
}

// reports collects a JWKS's reports to its operator.
type reports struct {
	mu   sync.Mutex
	list []string
}

func (r *reports) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, err.Error())
}

func (r *reports) has(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.list, func(s string) bool { return strings.Contains(s, text) })
}

func (r *reports) all() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.list, "; ")
}

// signedBy is a valid token by one of the issuer's keys, under any kid.
func signedBy(alg, kid string, sign func([]byte) []byte) string {
	return kind{alg: alg, kid: kid, sign: sign}.claims(goodClaims())
}

func newJWKS(t *testing.T, c *clock, source string, change ...func(*auth.JWKSConfig)) (*auth.JWKS, *reports) {
	t.Helper()
	told := &reports{}
	cfg := auth.JWKSConfig{Source: source, Issuer: "conclave", Audience: "mpc", Now: c.now, Report: told.add}
	for _, f := range change {
		f(&cfg)
	}
	j, err := auth.NewJWKS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return j, told
}

// TestJWKSRotation goes through an issuer's life: when a key is added, its tokens are
// valid at once; when the old one is removed, its tokens are refused, cached or not.
func TestJWKSRotation(t *testing.T) {
	t.Parallel()
	i, c, s := newIssuer(), &clock{t: epoch}, newServer(t)
	r1, d1 := rsaJWK("r1", &i.rsa.PublicKey), edJWK("d1", i.ed.Public().(ed25519.PublicKey))
	byR1, byD1 := signedBy("RS256", "r1", rsaSigner(i.rsa)), signedBy("EdDSA", "d1", edSigner(i.ed))
	changes := 0
	j, told := newJWKS(t, c, s.URL+"/keys", func(cfg *auth.JWKSConfig) { cfg.Changed = func() { changes++ } })
	want := func(when, token string, code wire.Code) auth.Claims {
		t.Helper()
		claims, err := j.Verify(t.Context(), token)
		if codeOf(err) != code {
			t.Fatalf("%s: got %v, want %q", when, err, code)
		}
		return claims
	}

	s.say(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	if err := j.Load(t.Context()); err == nil || !told.has("502") {
		t.Errorf("loaded from a server that is down: %v; told %s", err, told.all())
	}
	want("before the first set", byR1, wire.CodeUnavailable)
	s.serve(jwksText(t, r1))
	c.set(epoch.Add(10 * time.Second)) // and an unknown kid makes it try again
	first := want("the first key", byR1, "")
	want("before the second key is there", byD1, wire.CodeUnauthenticated)

	s.serve(jwksText(t, r1, d1))
	want("at once after that", byD1, wire.CodeUnauthenticated)
	c.set(c.now().Add(10 * time.Second))
	second := want("the second key, by its first token", byD1, "")
	want("the first key, still", byR1, "")

	// An unreadable set changes nothing.
	for name, answer := range map[string]http.HandlerFunc{
		"is down":          func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"serves garbage":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"serves half":      func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(jwksText(t, d1)[:50]) },
		"serves no keys":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"error":"none"}`) },
		"serves null":      func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":null}`) },
		"serves keys":      func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":{"r1":{}}}`) },
		"names keys twice": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":[],"keys":[]}`) },
		"serves too much": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(append(jwksText(t, d1), bytes.Repeat([]byte(" "), 1<<20)...))
		},
		"serves too many": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(jwksText(t, make([]jwk, 101)...)) },
		"redirects on":    func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, s.URL+"/on", http.StatusFound) },
		"answers in error": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			_, _ = w.Write(jwksText(t, d1))
		},
	} {
		s.say(answer)
		if err := j.Load(t.Context()); err == nil {
			t.Errorf("loaded from a server that %s", name)
		}
		want("while the server "+name, byR1, "")
		want("while the server "+name, byD1, "")
	}

	s.serve(jwksText(t, d1))
	if err := j.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if changes != 2 {
		t.Errorf("%d changes of the set, want 2", changes)
	}
	want("the first key when it is gone", byR1, wire.CodeUnauthenticated)
	want("the second key, still", byD1, "")
	if j.Check(first) == nil || j.Check(second) != nil {
		t.Error("Check does not tell a key that is gone from one that is there")
	}
	// Another key under the same name is a different key.
	s.serve(jwksText(t, d1, rsaJWK("r1", &i.stranger.PublicKey)))
	if err := j.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("the first key when its name is another's", byR1, wire.CodeUnauthenticated)
	if j.Check(first) == nil {
		t.Error("Check takes a key for another that has its name")
	}
	// A set without keys is accepted.
	s.serve(jwksText(t))
	if err := j.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("when there are no keys", byD1, wire.CodeUnauthenticated)
	if !told.has("no key that verifies") {
		t.Errorf("told %s", told.all())
	}
}

// TestJWKSUnknownKey bounds the requests to the issuer that clients can cause.
func TestJWKSUnknownKey(t *testing.T) {
	t.Parallel()
	i, c, s := newIssuer(), &clock{t: epoch}, newServer(t)
	s.serve(jwksText(t, rsaJWK("r1", &i.rsa.PublicKey)))
	j, _ := newJWKS(t, c, s.URL)
	if err := j.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	forge := func(n int) {
		var wg sync.WaitGroup
		for k := range n {
			wg.Go(func() {
				if _, err := j.Verify(t.Context(), signedBy("RS256", fmt.Sprint("kid-", k), rsaSigner(i.stranger))); codeOf(err) != wire.CodeUnauthenticated {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
	}
	forge(20)
	if n := s.asked.Load(); n != 1 {
		t.Errorf("asked %d times, want once: it was read just now", n)
	}
	c.set(epoch.Add(10 * time.Second))
	forge(20)
	if n := s.asked.Load(); n != 2 {
		t.Errorf("asked %d times, want one more for all who did not know", n)
	}
	s.say(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	c.set(epoch.Add(20 * time.Second))
	for range 3 {
		if _, err := j.Verify(t.Context(), signedBy("RS256", "r2", rsaSigner(i.rsa))); codeOf(err) != wire.CodeUnavailable || strings.Contains(err.Error(), s.URL) {
			t.Errorf("an unknown key while the issuer is down: %v", err)
		}
	}
	if n := s.asked.Load(); n != 3 {
		t.Errorf("asked %d times, want one more", n)
	}
	if _, err := j.Verify(t.Context(), signedBy("RS256", "r1", rsaSigner(i.rsa))); err != nil {
		t.Errorf("a known key while the issuer is down: %v", err)
	}
}

// TestJWKSHangingServer: a caller that waits for an issuer that does not answer can
// leave, and a known key does not wait at all.
func TestJWKSHangingServer(t *testing.T) {
	t.Parallel()
	i, c, s := newIssuer(), &clock{t: epoch}, newServer(t)
	s.serve(jwksText(t, rsaJWK("r1", &i.rsa.PublicKey)))
	release, reached := make(chan struct{}), make(chan struct{})
	j, _ := newJWKS(t, c, s.URL)
	if err := j.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	s.say(func(http.ResponseWriter, *http.Request) { once.Do(func() { close(reached) }); <-release })
	c.set(epoch.Add(10 * time.Second))
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = j.Verify(t.Context(), signedBy("RS256", "r2", rsaSigner(i.rsa))) })
	<-reached
	if _, err := j.Verify(t.Context(), signedBy("RS256", "r1", rsaSigner(i.rsa))); err != nil {
		t.Errorf("a known key: %v", err)
	}
	gone, cancel := contextThatEnds(t)
	cancel()
	if _, err := j.Verify(gone, signedBy("RS256", "r3", rsaSigner(i.rsa))); codeOf(err) != wire.CodeUnavailable {
		t.Errorf("after the client has gone: %v", err)
	}
	close(release)
	wg.Wait()
}

// TestJWKSRun reads a file again when it changes, and keeps the last set while the
// file is invalid.
func TestJWKSRun(t *testing.T) {
	t.Parallel()
	i, c := newIssuer(), &clock{t: epoch}
	file := filepath.Join(t.TempDir(), "jwks.json")
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(file+".new", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	changed := make(chan struct{}, 10)
	j, told := newJWKS(t, c, file, func(cfg *auth.JWKSConfig) {
		cfg.Every, cfg.Changed = 5*time.Millisecond, func() { changed <- struct{}{} }
	})
	if err := j.Load(t.Context()); err == nil {
		t.Error("loaded a file that is not there")
	}
	write(jwksText(t, rsaJWK("r1", &i.rsa.PublicKey)))
	if err := j.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextThatEnds(t)
	var wg sync.WaitGroup
	wg.Go(func() { _ = j.Run(ctx) })
	good := func(alg, kid string, sign func([]byte) []byte) bool {
		_, err := j.Verify(t.Context(), signedBy(alg, kid, sign))
		return err == nil
	}
	write([]byte("{"))
	eventually(t, "the fault is told of", func() bool { return told.has("not a JWKS") })
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the absence is told of", func() bool { return told.has("no such file") })
	if !good("RS256", "r1", rsaSigner(i.rsa)) {
		t.Error("the last good set is gone")
	}
	write(jwksText(t, ecJWK("e1", "P-256", &i.ec.PublicKey)))
	<-changed
	if good("RS256", "r1", rsaSigner(i.rsa)) || !good("ES256", "e1", ecSigner(i.ec)) {
		t.Error("the new set is not the one in place")
	}
	cancel()
	wg.Wait()
}

// TestJWKSPinsAlgorithm: a key verifies its own algorithm only, whatever the
// token's header says.
func TestJWKSPinsAlgorithm(t *testing.T) {
	t.Parallel()
	i, c := newIssuer(), &clock{t: epoch}
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, jwksText(t, rsaJWK("k", &i.rsa.PublicKey)), 0o600); err != nil {
		t.Fatal(err)
	}
	j, _ := newJWKS(t, c, file)
	if err := j.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	for alg, token := range map[string]string{"ES256": signedBy("ES256", "k", ecSigner(i.ec)), "EdDSA": signedBy("EdDSA", "k", edSigner(i.ed))} {
		if _, err := j.Verify(t.Context(), token); codeOf(err) != wire.CodeUnauthenticated || !strings.Contains(err.Error(), "algorithm or header not supported") {
			t.Errorf("%s for an RSA key: %v", alg, err)
		}
	}
}

// TestJWKSKeys checks which keys verify, and the reports about the others.
func TestJWKSKeys(t *testing.T) {
	t.Parallel()
	i, c := newIssuer(), &clock{t: epoch}
	good, ed := rsaJWK("k", &i.rsa.PublicKey), edJWK("k", i.ed.Public().(ed25519.PublicKey))
	ec := ecJWK("k", "P-256", &i.ec.PublicKey)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	even := with(good, jwk{"e": b64.EncodeToString([]byte{1, 0, 0})})
	for _, tt := range []struct {
		name string
		key  jwk
		says string // "" for a key that verifies
	}{
		{"RSA", good, ""},
		{"RSA that names its alg", with(good, jwk{"alg": "RS256", "use": "sig", "key_ops": []string{"verify"}}), ""},
		{"RSA with a certificate's address", with(good, jwk{"x5u": "http://127.0.0.1:1/cert", "x5c": []string{"AAAA"}, "x5t": "AAAA"}), ""},
		{"RSA with what nobody knows", with(good, jwk{"x-vendor": true}), ""},
		{"without kid", with(good, jwk{"kid": nil}), "no kid"},
		{"empty kid", with(good, jwk{"kid": ""}), "no kid"},
		{"long kid", with(good, jwk{"kid": strings.Repeat("k", 300)}), "very long"},
		{"kid a number", with(good, jwk{"kid": 1}), "not a JWK"},
		{"to encrypt with", with(good, jwk{"use": "enc"}), `use is "enc"`},
		{"for what nobody knows", with(good, jwk{"use": "sign"}), `use is "sign"`},
		{"for other operations", with(good, jwk{"key_ops": []string{"wrapKey"}}), "no verify"},
		{"for no operations", with(good, jwk{"key_ops": []string{}}), "no verify"},
		{"for PS256", with(good, jwk{"alg": "PS256"}), `alg is "PS256"`},
		{"for RS512", with(good, jwk{"alg": "RS512"}), `alg is "RS512"`},
		{"for HS256", with(good, jwk{"alg": "HS256"}), `alg is "HS256"`},
		{"for none", with(good, jwk{"alg": "none"}), `alg is "none"`},
		{"of another type's alg", with(good, jwk{"alg": "ES256"}), `alg is "ES256"`},
		{"short RSA", rsaJWK("k", &small.PublicKey), "1024 bits"},
		{"RSA without modulus", with(good, jwk{"n": nil}), "parameters"},
		{"RSA with an even exponent", even, "exponent"},
		{"RSA with exponent 1", with(good, jwk{"e": "AQ"}), "exponent"},
		{"RSA with an exponent beyond 64 bits", with(good, jwk{"e": b64.EncodeToString([]byte{1, 0, 0, 0, 0, 0, 0, 0, 3})}), "exponent"},
		{"RSA with an exponent beyond 31 bits", with(good, jwk{"e": b64.EncodeToString([]byte{1, 0, 0, 0, 3})}), "exponent"},
		{"RSA with padding", with(good, jwk{"e": "AQAB====", "n": good["n"].(string) + "="}), ""},
		{"RSA in another alphabet", with(good, jwk{"n": "+" + good["n"].(string)}), "parameters"},
		{"RSA with its private part", with(good, jwk{"d": b64.EncodeToString(i.rsa.D.Bytes())}), "private part"},
		{"EC", ec, ""},
		{"EC of P-384", ecJWK("k", "P-384", &p384.PublicKey), "P-256"},
		{"EC of no curve", with(ec, jwk{"crv": "P-255"}), "parameters"},
		{"EC off the curve", with(ec, jwk{"x": ec["y"]}), "parameters"},
		{"EC at infinity", with(ec, jwk{"x": b64.EncodeToString(make([]byte, 32)), "y": b64.EncodeToString(make([]byte, 32))}), "parameters"},
		{"EC without a coordinate", with(ec, jwk{"y": nil}), "parameters"},
		{"EC with a long coordinate", with(ec, jwk{"x": b64.EncodeToString(make([]byte, 64)) + ec["x"].(string)}), "parameters"},
		{"Ed25519", ed, ""},
		{"Ed25519 cut", with(ed, jwk{"x": "AAAA"}), "parameters"},
		{"X25519", with(ed, jwk{"crv": "X25519"}), "not a key that verifies"},
		{"symmetric", jwk{"kty": "oct", "kid": "k", "k": b64.EncodeToString(symmetric)}, "symmetric"},
		{"symmetric beside RSA", with(good, jwk{"k": b64.EncodeToString(symmetric)}), "symmetric"},
		{"of no type", with(good, jwk{"kty": nil}), "parameters"},
		{"of type none", with(good, jwk{"kty": "none"}), "parameters"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "jwks.json")
			if err := os.WriteFile(file, jwksText(t, tt.key), 0o600); err != nil {
				t.Fatal(err)
			}
			j, told := newJWKS(t, c, file)
			if err := j.Load(t.Context()); err != nil {
				t.Fatal(err)
			}
			token := signedBy("RS256", "k", rsaSigner(i.rsa))
			switch tt.key["kty"] {
			case "EC":
				token = signedBy("ES256", "k", ecSigner(i.ec))
			case "OKP":
				token = signedBy("EdDSA", "k", edSigner(i.ed))
			}
			_, err := j.Verify(t.Context(), token)
			if tt.says == "" && (err != nil || told.all() != "") {
				t.Errorf("got %v; told %s", err, told.all())
			}
			if tt.says != "" && (codeOf(err) != wire.CodeUnauthenticated || !told.has(tt.says)) {
				t.Errorf("got %v; told %s, want %q", err, told.all(), tt.says)
			}
			if strings.Contains(told.all(), b64.EncodeToString(symmetric)) || strings.Contains(told.all(), b64.EncodeToString(i.rsa.D.Bytes())) {
				t.Error("the key is repeated")
			}
		})
	}
}

// revokedIDs are the jti of revoked tokens.
type revokedIDs map[string]bool

func (r revokedIDs) Check(c auth.Claims) error {
	if r[c.ID] {
		return auth.ErrRevoked
	}
	return nil
}

// TestMalleable: anyone can write an ES256 signature in a second way. It is the
// same token, with the same jti, and revoked with it.
func TestMalleable(t *testing.T) {
	t.Parallel()
	i, c := newIssuer(), &clock{t: epoch}
	j := jwksFile(t, c, ecJWK("e1", "P-256", &i.ec.PublicKey))
	revoked := revokedIDs{}
	v := auth.Guard(j, revoked)
	first := kind{alg: "ES256", kid: "e1", sign: ecSigner(i.ec)}.claims(good(`,"iss":"conclave","aud":"mpc","jti":"j1"`))
	cut := strings.LastIndexByte(first, '.') + 1
	sig, err := b64.DecodeString(first[cut:])
	if err != nil {
		t.Fatal(err)
	}
	s := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(sig[32:]))
	second := first[:cut] + b64.EncodeToString(append(sig[:32:32], s.FillBytes(make([]byte, 32))...))
	for _, token := range []string{first, second} {
		if got, err := v.Verify(t.Context(), token); err != nil || got.ID != "j1" {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	revoked["j1"] = true
	for _, token := range []string{first, second} {
		if _, err := v.Verify(t.Context(), token); wire.AsError(err) != auth.ErrRevoked {
			t.Errorf("got %v", err)
		}
	}
}

func TestJWKSConfig(t *testing.T) {
	t.Parallel()
	for _, cfg := range []auth.JWKSConfig{
		{}, {Source: "ftp://host/keys"}, {Source: "https://"}, {Source: "http://%zz"}, {Source: "keys.json", MaxLife: auth.MaxTTL + 1},
	} {
		if _, err := auth.NewJWKS(cfg); err == nil {
			t.Errorf("%+v", cfg)
		}
	}
	// A password in the address is not repeated, and encryption is not removed.
	s := newServer(t)
	s.serve(jwksText(t))
	secure := httptest.NewTLSServer(http.RedirectHandler(s.URL, http.StatusFound))
	defer secure.Close()
	c := &clock{t: epoch}
	j, told := newJWKS(t, c, strings.Replace(secure.URL, "https://", "https://user:hunter2@", 1)+"/keys?access=hunter2", func(cfg *auth.JWKSConfig) {
		cfg.Client = secure.Client()
		cfg.Client.CheckRedirect = auth.CheckRedirect
	})
	if err := j.Load(t.Context()); err == nil || !strings.Contains(err.Error(), "redirected from https") || s.asked.Load() != 0 {
		t.Errorf("redirected to http: %v", err)
	}
	s.Close()
	gone, toldOfGone := newJWKS(t, c, strings.Replace(s.URL, "http://", "http://user:hunter2@", 1)+"/keys?access=hunter2")
	if err := gone.Load(t.Context()); err == nil {
		t.Error("loaded from nowhere")
	}
	if all := told.all() + toldOfGone.all(); strings.Contains(all, "hunter2") || !strings.Contains(all, "refused") {
		t.Errorf("told %s", all)
	}
	var network *os.PathError
	if j, _ = newJWKS(t, c, "/nowhere/jwks.json"); !errors.As(j.Load(t.Context()), &network) {
		t.Error("the cause is lost")
	}
}
