package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// attack makes a token that must be refused; "" if it does not apply to a kind.
type attack struct {
	name string
	make func(k kind) string
}

// goodClaims are the claims of the token that the attacks start from.
func goodClaims() string { return good(`,"iss":"conclave","aud":["other","mpc"]`) }

// TestAttacks tries attacks that broke other verifiers, on every kind of verifier.
func TestAttacks(t *testing.T) {
	t.Parallel()
	all := slices.Concat(shapeAttacks(), algorithmAttacks(), signatureAttacks(), headerAttacks(), keyAttacks(), claimAttacks())
	for _, k := range kinds(t, &clock{t: epoch}) {
		t.Run(k.name, func(t *testing.T) {
			if c, err := verify(k, k.claims(goodClaims())); err != nil || c.Subject != "alice" {
				t.Fatalf("the token that the attacks are made of: %+v, %v", c, err)
			}
			for _, a := range all {
				token := a.make(k)
				// For another issuer's subjects these are names to map: see TestSubjects.
				mapped := k.alg != "HS256" && (a.name == "sub with a colon" || a.name == "sub with braces")
				if token == "" || mapped {
					continue
				}
				t.Run(a.name, func(t *testing.T) {
					got, err := verify(k, token)
					if codeOf(err) != wire.CodeUnauthenticated || got.Subject != "" {
						t.Fatalf("got %+v, %v; want unauthenticated", got, err)
					}
					for _, part := range strings.Split(token, ".") {
						if len(part) > 8 && strings.Contains(err.Error(), part) {
							t.Errorf("the error holds the token: %v", err)
						}
					}
				})
			}
			if _, err := verify(k, ""); codeOf(err) != wire.CodeUnauthenticated {
				t.Errorf("no token at all: %v", err)
			}
			if _, err := verify(k, k.claims(goodClaims())); err != nil {
				t.Errorf("the good token after all that: %v", err)
			}
		})
	}
}

// split returns the three parts of a valid token.
func (k kind) split() (header, claims, sig string) {
	p := strings.Split(k.claims(goodClaims()), ".")
	return p[0], p[1], p[2]
}

// shapeAttacks spell a token in another form than its issuer would.
func shapeAttacks() []attack {
	edit := func(f func(header, claims, sig string) string) func(kind) string {
		return func(k kind) string { return f(k.split()) }
	}
	join := func(p ...string) string { return strings.Join(p, ".") }
	return []attack{
		{"blank", func(kind) string { return " " }},
		{"not a token", func(kind) string { return "JWT令牌" }},
		{"only points", func(kind) string { return ".." }},
		{"two parts", edit(func(h, c, _ string) string { return join(h, c) })},
		{"four parts", edit(func(h, c, s string) string { return join(h, c, s, "x") })},
		{"five parts, as if encrypted", edit(func(h, c, s string) string { return join(h, c, s, s, s) })},
		{"blank before", edit(func(h, c, s string) string { return " " + join(h, c, s) })},
		{"blank after", edit(func(h, c, s string) string { return join(h, c, s) + " " })},
		{"line break after", edit(func(h, c, s string) string { return join(h, c, s) + "\n" })},
		{"line break in the signature", edit(func(h, c, s string) string { return join(h, c, s[:9]+"\n"+s[9:]) })},
		{"carriage return in the signature", edit(func(h, c, s string) string { return join(h, c, s[:9]+"\r"+s[9:]) })},
		{"line break in the claims, signed", func(k kind) string { h, c, _ := k.split(); return k.seal(h, c[:8]+"\r\n"+c[8:]) }},
		{"line break in the header, signed", func(k kind) string { h, c, _ := k.split(); return k.seal(h[:8]+"\n"+h[8:], c) }},
		{"padded signature", edit(func(h, c, s string) string { return join(h, c, s+strings.Repeat("=", (4-len(s)%4)%4)) })},
		{"padding where there is none", edit(func(h, c, s string) string { return join(h, c, s+"====") })},
		{"padded header, signed", func(k kind) string { _, c, _ := k.split(); return k.seal(b64Padded(k.header("")), c) }},
		{"stray bits in the signature", edit(func(h, c, s string) string { return join(h, c, strayBits(s)) })},
		{"stray bits in the claims, signed", func(k kind) string {
			h, _, _ := k.split()
			claims := goodClaims()
			for len(claims)%3 == 0 {
				claims += " "
			}
			return k.seal(h, strayBits(b64.EncodeToString([]byte(claims))))
		}},
		{"the other base64 alphabet", func(k kind) string {
			h, _, _ := k.split()
			for n := 0; ; n++ { // until the claims need one of the two that differ
				claims := b64.EncodeToString([]byte(good(fmt.Sprintf(`,"iss":"conclave","aud":"mpc","x":"%s~~??>>"`, strings.Repeat("x", n)))))
				if other := strings.NewReplacer("-", "+", "_", "/").Replace(claims); other != claims {
					return k.seal(h, other)
				}
			}
		}},
		{"percent-encoded points", edit(func(h, c, s string) string { return h + "%2E" + c + "%2E" + s })},
		{"huge", func(k kind) string {
			return k.claims(good(`,"iss":"conclave","aud":"mpc","x":"` + strings.Repeat("x", wire.MaxTokenBytes) + `"`))
		}},
		{"huge header", func(k kind) string {
			return k.token(k.header(`,"x":"`+strings.Repeat("x", wire.MaxTokenBytes)+`"`), goodClaims())
		}},
		{"huge and not a token", func(kind) string { return strings.Repeat(".", 10<<20) }},
		{"deep", func(k kind) string {
			return k.claims(good(`,"iss":"conclave","aud":"mpc","x":` + strings.Repeat("[", 2000)))
		}},
	}
}

func b64Padded(s string) string {
	for len(s)%3 == 0 {
		s += " "
	}
	text := b64.EncodeToString([]byte(s))
	return text + strings.Repeat("=", (4-len(text)%4)%4)
}

// strayBits sets an unused bit of the last character.
func strayBits(s string) string {
	const signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if len(s)%4 == 0 {
		panic("all bits of it stand for something")
	}
	return s[:len(s)-1] + string(signs[strings.IndexByte(signs, s[len(s)-1])^1])
}

// algorithmAttacks ask for another algorithm than the key's.
func algorithmAttacks() []attack {
	i := newIssuer()
	var list []attack
	header := func(k kind, alg string) string {
		return strings.Replace(k.header(""), fmt.Sprintf("%q", k.alg), alg, 1)
	}
	for _, none := range []string{"none", "None", "NONE", "nOnE", "none "} {
		list = append(list,
			attack{"alg " + none, func(k kind) string {
				return b64.EncodeToString([]byte(header(k, fmt.Sprintf("%q", none)))) + "." + b64.EncodeToString([]byte(goodClaims())) + "."
			}},
			attack{"alg " + none + " with a signature", func(k kind) string { return k.token(header(k, fmt.Sprintf("%q", none)), goodClaims()) }})
	}
	for name, alg := range map[string]string{
		"empty": `""`, "null": "null", "a number": "256", "a list": `["HS256","RS256","ES256","EdDSA"]`, "an object": `{"alg":"HS256"}`, "unknown": `"XS256"`,
	} {
		list = append(list, attack{"alg " + name, func(k kind) string { return k.token(header(k, alg), goodClaims()) }})
	}
	list = append(list,
		attack{"alg missing", func(k kind) string { return k.token(fmt.Sprintf(`{"kid":%q}`, k.kid), goodClaims()) }},
		attack{"alg in lower case", func(k kind) string {
			return k.token(header(k, fmt.Sprintf("%q", strings.ToLower(k.alg))), goodClaims())
		}},
		attack{"alg with a blank", func(k kind) string { return k.token(header(k, fmt.Sprintf("%q", k.alg+" ")), goodClaims()) }},
		attack{"the other name of EdDSA", func(k kind) string { return k.token(header(k, `"Ed25519"`), goodClaims()) }},
	)
	// Every other algorithm over the same signature, and each by its own key under this key's kid.
	for _, alg := range []string{"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"} {
		list = append(list, attack{alg + " over the key's own signature", func(k kind) string {
			if alg == k.alg {
				return ""
			}
			return k.token(header(k, fmt.Sprintf("%q", alg)), goodClaims())
		}})
	}
	signers := map[string]func([]byte) []byte{
		"HS256": hmacOf(secret), "HS384": hmacWith(sha512.New384, secret), "HS512": hmacWith(sha512.New, secret), "RS256": rsaSigner(i.rsa), "ES256": ecSigner(i.ec), "EdDSA": edSigner(i.ed),
		"RS512": func(text []byte) []byte {
			digest := sha512.Sum512(text)
			sig, _ := rsa.SignPKCS1v15(nil, i.rsa, crypto.SHA512, digest[:])
			return sig
		},
		"PS256": func(text []byte) []byte {
			digest := sha256.Sum256(text)
			sig, _ := rsa.SignPSS(rand.Reader, i.rsa, crypto.SHA256, digest[:], nil)
			return sig
		},
	}
	for alg, sign := range signers {
		list = append(list, attack{alg + " by its own key, under this kid", func(k kind) string {
			if alg == k.alg || alg == "HS256" && strings.HasPrefix(k.name, "both") { // a valid token of the other kind
				return ""
			}
			forged := k
			forged.sign = sign
			return forged.token(header(k, fmt.Sprintf("%q", alg)), goodClaims())
		}})
	}
	return append(list, confusionAttacks()...)
}

// confusionAttacks sign by HMAC with public values.
func confusionAttacks() []attack {
	i := newIssuer()
	spki := func(key any) []byte { der, _ := x509.MarshalPKIXPublicKey(key); return der }
	text := func(v any) []byte { b, _ := json.Marshal(v); return b }
	armor := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	ed := i.ed.Public().(ed25519.PublicKey)
	point, _ := i.ec.PublicKey.Bytes()
	keys := map[string][]byte{
		"nothing":                        nil,
		"the RSA key, PKIX PEM":          armor("PUBLIC KEY", spki(&i.rsa.PublicKey)),
		"the RSA key, PKIX PEM trimmed":  []byte(strings.TrimSpace(string(armor("PUBLIC KEY", spki(&i.rsa.PublicKey))))),
		"the RSA key, PKCS 1 PEM":        armor("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&i.rsa.PublicKey)),
		"the RSA key, DER":               spki(&i.rsa.PublicKey),
		"the RSA key, JWK":               text(rsaJWK("r1", &i.rsa.PublicKey)),
		"the RSA modulus":                i.rsa.N.Bytes(),
		"the EC key, PEM":                armor("PUBLIC KEY", spki(&i.ec.PublicKey)),
		"the EC key, JWK":                text(ecJWK("e1", "P-256", &i.ec.PublicKey)),
		"the EC point":                   point,
		"the Ed25519 key":                ed,
		"the Ed25519 key, PEM":           armor("PUBLIC KEY", spki(ed)),
		"the Ed25519 key, JWK":           text(edJWK("d1", ed)),
		"the whole JWKS":                 text(jwk{"keys": i.published()}),
		"the symmetric key in the JWKS":  symmetric,
		"the issuer's name":              []byte("conclave"),
		"the secret in base64":           []byte(b64.EncodeToString(secret)),
		"the secret without its end":     secret[:len(secret)-1],
		"the secret with a zero after":   append(slices.Clone(secret), 0, 1),
		"the secret with a line break":   append(slices.Clone(secret), '\n'),
		"an attacker's key of 32 bytes.": []byte("attacker's key, of 32 bytes or so"),
	}
	var list []attack
	for name, key := range keys {
		for _, kid := range []string{"", "r1", "e1", "d1", "sym"} {
			list = append(list, attack{"HS256 with " + name + ", kid " + kid, func(kind) string {
				forged := kind{alg: "HS256", kid: kid, sign: hmacOf(key)}
				return forged.claims(goodClaims())
			}})
		}
		list = append(list, attack{"HMAC with " + name + " under the key's own alg", func(k kind) string {
			k.sign = hmacOf(key)
			return k.claims(goodClaims())
		}})
	}
	return list
}

// signatureAttacks send an invalid signature.
func signatureAttacks() []attack {
	n := elliptic.P256().Params().N
	raw := func(f func(sig []byte) []byte) func(kind) string {
		return func(k kind) string {
			sign := k.sign
			k.sign = func(text []byte) []byte { return f(sign(text)) }
			return k.claims(goodClaims())
		}
	}
	pair := func(r, s *big.Int) func(kind) string {
		return raw(func([]byte) []byte { return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...) })
	}
	zero, one := big.NewInt(0), big.NewInt(1)
	return []attack{
		{"no signature", raw(func([]byte) []byte { return nil })},
		{"cut by a byte", raw(func(s []byte) []byte { return s[:len(s)-1] })},
		{"cut to half", raw(func(s []byte) []byte { return s[:len(s)/2] })},
		{"cut to a byte", raw(func(s []byte) []byte { return s[:1] })},
		{"a byte more", raw(func(s []byte) []byte { return append(s, 0) })},
		{"a byte before", raw(func(s []byte) []byte { return append([]byte{0}, s...) })},
		{"twice", raw(func(s []byte) []byte { return append(s, s...) })},
		{"one bit other", raw(func(s []byte) []byte { s[len(s)/2] ^= 1; return s })},
		{"all zero", raw(func(s []byte) []byte { return make([]byte, len(s)) })},
		{"all ones", raw(func(s []byte) []byte { return []byte(strings.Repeat("\xff", len(s))) })},
		{"the number one", raw(func(s []byte) []byte { return append(make([]byte, len(s)-1), 1) })},
		{"psychic: r and s zero", pair(zero, zero)},
		{"psychic: r zero", pair(zero, one)},
		{"psychic: s zero", pair(one, zero)},
		{"psychic: r and s the order", pair(n, n)},
		{"psychic: r one, s the order", pair(one, n)},
		{"as DER", raw(func(s []byte) []byte {
			der, _ := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(s[:len(s)/2]), new(big.Int).SetBytes(s[len(s)/2:])})
			return der
		})},
		{"of other claims", func(k kind) string {
			h, _, s := k.split()
			return h + "." + b64.EncodeToString([]byte(strings.Replace(goodClaims(), "alice", "admin", 1))) + "." + s
		}},
		{"of another header", func(k kind) string {
			_, c, s := k.split()
			return b64.EncodeToString([]byte(k.header(`,"typ":"JWT"`))) + "." + c + "." + s
		}},
		{"by a stranger's key", func(k kind) string {
			switch k.alg {
			case "HS256":
				k.sign = hmacOf([]byte("another secret of thirty-two byte"))
			case "RS256":
				k.sign = rsaSigner(newIssuer().stranger)
			case "ES256":
				key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
				k.sign = ecSigner(key)
			default:
				_, key, _ := ed25519.GenerateKey(rand.Reader)
				k.sign = edSigner(key)
			}
			return k.claims(goodClaims())
		}},
		{"expired, and by a stranger", func(k kind) string {
			k.sign = hmacOf([]byte("another secret of thirty-two byte"))
			return k.claims(fmt.Sprintf(`{"sub":"alice","iss":"conclave","aud":"mpc","exp":%d}`, epoch.Unix()-60))
		}},
	}
}

// headerAttacks put instructions in the header that must not be followed.
func headerAttacks() []attack {
	i := newIssuer()
	list := []attack{
		{"header not an object", func(k kind) string { return k.token(`"`+k.alg+`"`, goodClaims()) }},
		{"header null", func(k kind) string { return k.token("null", goodClaims()) }},
		{"something after the header", func(k kind) string { return k.token(k.header("")+k.header(""), goodClaims()) }},
		{"byte order mark", func(k kind) string { return k.token("\xef\xbb\xbf"+k.header(""), goodClaims()) }},
		{"header not UTF-8", func(k kind) string { return k.token(k.header(",\"x\":\"\xff\""), goodClaims()) }},
		{"alg twice, none last", func(k kind) string { return k.token(k.header(`,"alg":"none"`), goodClaims()) }},
		{"alg twice, none first", func(k kind) string { return k.token(`{"alg":"none",`+k.header("")[1:], goodClaims()) }},
		{"alg twice, the same", func(k kind) string { return k.token(k.header(fmt.Sprintf(`,"alg":%q`, k.alg)), goodClaims()) }},
		{"alg twice, once escaped", func(k kind) string { return k.token(k.header(`,"\u0061lg":"none"`), goodClaims()) }},
		{"alg only as ALG", func(k kind) string { return k.token(strings.Replace(k.header(""), "alg", "ALG", 1), goodClaims()) }},
		{"kid twice", func(k kind) string { return k.token(k.header(`,"kid":"r1","kid":"e1"`), goodClaims()) }},
		{"a member of a member twice", func(k kind) string { return k.token(k.header(`,"x":[{"y":1,"y":2}]`), goodClaims()) }},
		{"a key of its own, and signed by it", func(k kind) string {
			forged := kind{alg: "RS256", kid: k.kid, sign: rsaSigner(i.stranger)}
			text, _ := json.Marshal(rsaJWK("mine", &i.stranger.PublicKey))
			return forged.token(forged.header(`,"jwk":`+string(text)), goodClaims())
		}},
		{"a symmetric key of its own", func(kind) string {
			key := []byte("attacker's key, of 32 bytes or so")
			forged := kind{alg: "HS256", sign: hmacOf(key)}
			return forged.token(forged.header(`,"jwk":{"kty":"oct","k":"`+b64.EncodeToString(key)+`"}`), goodClaims())
		}},
		{"unencoded claims", func(k kind) string { return k.token(k.header(`,"b64":false,"crit":["b64"]`), goodClaims()) }},
		{"a type that is a number", func(k kind) string { return k.token(k.header(`,"typ":7`), goodClaims()) }},
	}
	// Refused even if the right key signed it: its request is not supported.
	for name, member := range map[string]string{
		"crit": `"crit":["exp"]`, "crit null": `"crit":null`, "crit empty": `"crit":[]`, "crit of kid": `"crit":["kid"]`, "b64 alone": `"b64":false`,
		"jwk": `"jwk":{"kty":"oct","k":"AAAA"}`, "jku": `"jku":"http://127.0.0.1:1/keys"`, "x5u": `"x5u":"http://127.0.0.1:1/cert"`, "x5c": `"x5c":["AAAA"]`,
	} {
		list = append(list, attack{"header with " + name, func(k kind) string { return k.token(k.header(","+member), goodClaims()) }})
	}
	for _, typ := range []string{"", "JWE", "logout+jwt", "secevent+jwt", "dpop+jwt", "application/logout+jwt"} {
		list = append(list, attack{"type " + typ, func(k kind) string { return k.token(k.header(fmt.Sprintf(`,"typ":%q`, typ)), goodClaims()) }})
	}
	return list
}

// keyAttacks name another key than the one that signs. A secret has no name.
func keyAttacks() []attack {
	var list []attack
	for name, kid := range map[string]string{
		"none": "", "empty": `,"kid":""`, "null": `,"kid":null`, "a number": `,"kid":1`, "a list": `,"kid":["r1"]`, "unknown": `,"kid":"nobody"`,
		"a path": `,"kid":"../../dev/null"`, "a path of the JWKS": `,"kid":"/proc/self/environ"`, "SQL": `,"kid":"x' UNION SELECT 'key"`,
		"a URL": `,"kid":"http://127.0.0.1:1/key"`, "a command": `,"kid":"$(id)|id"`, "in other case": `,"kid":"R1"`, "with a zero": `,"kid":"r1\u0000"`,
		"long": `,"kid":"` + strings.Repeat("r1", 1000) + `"`, "of a symmetric key": `,"kid":"sym"`, "of a key to encrypt with": `,"kid":"enc"`,
		"of a key for other operations": `,"kid":"ops"`, "of a key of another algorithm": `,"kid":"ps"`, "of a key whose alg is not its type's": `,"kid":"mixed"`,
		"of two keys": `,"kid":"twin"`,
	} {
		list = append(list, attack{"kid " + name, func(k kind) string {
			if k.kid == "" {
				return ""
			}
			k.kid = ""
			return k.token(k.header(kid), goodClaims())
		}})
	}
	for _, other := range []string{"r1", "e1", "d1"} {
		list = append(list, attack{"kid of " + other, func(k kind) string {
			if k.kid == "" || k.kid == other {
				return ""
			}
			k.kid = other
			return k.claims(goodClaims())
		}})
	}
	return list
}

// claimAttacks are signed by the right key, with claims that must be refused.
func claimAttacks() []attack {
	soon := epoch.Unix() + 60
	base := func(exp any, more string) string {
		return fmt.Sprintf(`{"sub":"alice","role":"participant","iss":"conclave","aud":"mpc","exp":%v%s}`, exp, more)
	}
	var list []attack
	for name, claims := range map[string]string{
		"claims not an object":         `["alice"]`,
		"claims null":                  `null`,
		"claims empty":                 ``,
		"claims cut short":             goodClaims()[:len(goodClaims())-1],
		"something after the claims":   goodClaims() + goodClaims(),
		"claims not UTF-8":             base(soon, ",\"x\":\"\xff\""),
		"sub missing":                  fmt.Sprintf(`{"role":"participant","iss":"conclave","aud":"mpc","exp":%d}`, soon),
		"sub empty":                    strings.Replace(base(soon, ""), "alice", "", 1),
		"sub a number":                 strings.Replace(base(soon, ""), `"alice"`, "7", 1),
		"sub a list":                   strings.Replace(base(soon, ""), `"alice"`, `["alice"]`, 1),
		"sub with a colon":             strings.Replace(base(soon, ""), "alice", "a:b", 1),
		"sub with braces":              strings.Replace(base(soon, ""), "alice", "{a}", 1),
		"sub with a line break":        strings.Replace(base(soon, ""), "alice", `a\nb`, 1),
		"sub with half a sign":         strings.Replace(base(soon, ""), "alice", `\ud800`, 1),
		"sub only as SUB":              strings.Replace(base(soon, ""), `"sub"`, `"SUB"`, 1),
		"sub twice":                    base(soon, `,"sub":"admin"`),
		"sub twice, once escaped":      base(soon, `,"\u0073ub":"admin"`),
		"exp twice":                    base(soon, fmt.Sprintf(`,"exp":%d`, soon+1)),
		"iss twice":                    base(soon, `,"iss":"conclave"`),
		"aud twice":                    base(soon, `,"aud":"x"`),
		"roles twice":                  base(soon, `,"roles":["participant"],"roles":["admin"]`),
		"jti twice":                    base(soon, `,"jti":"a","jti":"b"`),
		"a member of a claim twice":    base(soon, `,"x":{"y":{"z":1,"z":1}}`),
		"exp missing":                  `{"sub":"alice","iss":"conclave","aud":"mpc"}`,
		"exp null":                     base("null", ""),
		"exp a string":                 base(`"4102444800"`, ""),
		"exp a list":                   base(`[4102444800]`, ""),
		"exp true":                     base("true", ""),
		"exp negative":                 base("-1", ""),
		"exp beyond all time":          base("1e300", ""),
		"exp beyond a number":          base("1e999", ""),
		"exp beyond int64":             base("9223372036854775808", ""),
		"exp beyond RFC 3339":          base("253402300800", ""),
		"exp beyond the longest life":  base(epoch.Unix()+400*86400, ""),
		"a life beyond the longest":    base(soon, fmt.Sprintf(`,"iat":%d`, epoch.Unix()-400*86400)),
		"nbf ahead":                    base(soon, fmt.Sprintf(`,"nbf":%d`, epoch.Unix()+30)),
		"nbf a string":                 base(soon, `,"nbf":"now"`),
		"iat ahead":                    base(soon, fmt.Sprintf(`,"iat":%d`, epoch.Unix()+30)),
		"iat after exp":                base(soon, fmt.Sprintf(`,"iat":%d`, soon+1)),
		"iat negative":                 base(soon, `,"iat":-1`),
		"iat beyond all time":          base(soon, `,"iat":1e300`),
		"iat a string":                 base(soon, `,"iat":"now"`),
		"iat null":                     base(soon, `,"iat":null`),
		"jti a number":                 base(soon, `,"jti":7`),
		"jti too long to revoke":       base(soon, `,"jti":"`+strings.Repeat("j", 257)+`"`),
		"jti with a line break":        base(soon, `,"jti":"a\nb"`),
		"roles a number":               base(soon, `,"roles":7`),
		"issuer missing":               fmt.Sprintf(`{"sub":"alice","aud":"mpc","exp":%d}`, soon),
		"issuer other":                 strings.Replace(base(soon, ""), `"conclave"`, `"x"`, 1),
		"issuer in other case":         strings.Replace(base(soon, ""), `"conclave"`, `"Conclave"`, 1),
		"issuer with more after":       strings.Replace(base(soon, ""), `"conclave"`, `"conclave.evil.example"`, 1),
		"issuer a list":                strings.Replace(base(soon, ""), `"conclave"`, `["conclave"]`, 1),
		"issuer other, and expired":    strings.Replace(base(epoch.Unix()-60, ""), `"conclave"`, `"x"`, 1),
		"audience missing":             fmt.Sprintf(`{"sub":"alice","iss":"conclave","exp":%d}`, soon),
		"audience other":               strings.Replace(base(soon, ""), `"mpc"`, `["x","mp"]`, 1),
		"audience empty":               strings.Replace(base(soon, ""), `"mpc"`, `[]`, 1),
		"audience a number":            strings.Replace(base(soon, ""), `"mpc"`, `7`, 1),
		"audience a list with numbers": strings.Replace(base(soon, ""), `"mpc"`, `["mpc",7]`, 1),
	} {
		list = append(list, attack{name, func(k kind) string { return k.claims(claims) }})
	}
	return append(list, attack{"a generation that is none", func(k kind) string {
		if k.alg != "HS256" { // another issuer's gen means nothing here
			return ""
		}
		return k.claims(base(soon, `,"gen":1.5`))
	}})
}
