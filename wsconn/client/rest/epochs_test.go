package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/sessiontest"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Epochs and Lineage read all pages, and not for ever.
func TestNumberedPages(t *testing.T) {
	var seen []string
	url := clienttest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.URL.RequestURI())
		after, _ := strconv.Atoi(r.URL.Query().Get("after"))
		switch key := strings.Split(r.URL.Path, "/")[3]; {
		case key == "endless" || after < 7:
			_, _ = fmt.Fprintf(w, `{"items":[{"epoch":%d,"certificate":"c"}],"next":"%d"}`, after+7, after+7)
		case key == "stuck":
			_, _ = fmt.Fprintf(w, `{"items":[{"epoch":8}],"next":"7"}`)
		default:
			_, _ = fmt.Fprintf(w, `{"items":[{"epoch":9,"certificate":"d"}]}`)
		}
	})
	a, ctx := newAPI(t, url), context.Background()
	if list, err := a.Epochs(ctx, "a b"); err != nil || len(list) != 2 || list[0].Epoch != 7 || list[1].Epoch != 9 {
		t.Errorf("epochs %+v, %v", list, err)
	}
	if list, err := a.Lineage(ctx, "k1"); err != nil || len(list) != 2 || list[1].Certificate != "d" {
		t.Errorf("lineage %+v, %v", list, err)
	}
	if list, err := a.Epochs(ctx, "stuck"); err != nil || len(list) != 2 {
		t.Errorf("a page that names itself as the next: %+v, %v", list, err)
	}
	clienttest.Want(t, "requests", seen, []string{
		"/v1/keys/a%20b/epochs?after=0", "/v1/keys/a%20b/epochs?after=7", "/v1/keys/k1/lineage?after=0", "/v1/keys/k1/lineage?after=7",
		"/v1/keys/stuck/epochs?after=0", "/v1/keys/stuck/epochs?after=7",
	})
	if list, err := a.Lineage(ctx, "endless"); err == nil {
		t.Errorf("a list without end: %d items", len(list))
	}
}

// lineageOf returns the lineage of a new key of three users, and their identities.
func lineageOf(t *testing.T, keyID string) *statement.Lineage {
	t.Helper()
	solo := sessiontest.NewSoloKey(5)
	attested := statement.Attested{
		SessionID: "kg-1", KeyID: keyID, Epoch: 1, Coordinator: "boss", Curve: pubkey.Secp256k1, Threshold: 2,
		Participants: []string{"alice", "bob", "carol"}, AccountAddr: solo.Address, PublicKey: solo.Public,
	}
	var owners []*identity.Identity
	var members []identity.Member
	for i, user := range attested.Participants {
		own, err := identity.New()
		if err != nil {
			t.Fatal(err)
		}
		owners, members = append(owners, own), append(members, identity.Member{Index: i + 1, User: user, Identity: own.Public()})
	}
	var texts []string
	for _, own := range owners {
		a, err := attested.Attest(own, members)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, a.String())
	}
	first, err := statement.FirstCertificate(attested, texts)
	if err != nil {
		t.Fatal(err)
	}
	l, err := statement.VerifyLineage([]*statement.Certificate{first})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Reshare sends the signed request once under its Idempotency-Key, and believes a
// success by its certificate alone.
func TestReshare(t *testing.T) {
	l := lineageOf(t, "vault")
	outcome, bodies := "", []string{}
	url := clienttest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.Path != "/v1/keys/vault/epochs" || r.Header.Get("Idempotency-Key") != "refresh-1" || r.URL.Query().Has("start") {
			t.Errorf("%s %s, Idempotency-Key %q", r.Method, r.URL, r.Header.Get("Idempotency-Key"))
		}
		bodies = append(bodies, string(body))
		_, _ = fmt.Fprintf(w, `{"key_id":"vault","session_id":"rs-1","session":{"session_id":"rs-1","kind":"reshare","key_id":"vault",%s}}`, outcome)
	})
	own, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{URLs: []string{url}, Token: StaticToken("t0ken"), User: "boss", Identity: own})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	ask := func(answer string) error {
		outcome = answer
		r := request.Refresh(l)
		r.RequestID, r.NewIdentities = "refresh-1", []string{"alice", "bob", "carol"}
		_, err := a.Reshare(context.Background(), r)
		return err
	}
	err = ask(`"phase":"failed","reason":"carol left","culprits":[6]`)
	var ended *request.OutcomeError
	if !errors.As(err, &ended) || ended.Status != wire.StatusFailed || len(ended.Culprits) != 1 || ended.Culprits[0] != 6 {
		t.Errorf("a failure is %v", err)
	}
	for _, certificate := range []string{"", "nonsense", l.Head().String()} {
		if err := ask(fmt.Sprintf(`"phase":"completed","epoch":2,"certificate":%q`, certificate)); !errors.Is(err, request.ErrNotCertified) {
			t.Errorf("a success with the certificate %.40q: %v", certificate, err)
		}
	}
	var p wire.ReshareRequest
	if err := wire.Unmarshal([]byte(bodies[0]), &p); err != nil {
		t.Fatal(err)
	}
	if p.KeyID != "vault" || p.SessionID != wire.ReshareID("boss", "vault", "refresh-1") || p.SignedRequest == "" || len(p.Participants) != 3 || p.Validate() != nil {
		t.Errorf("the body: %s", bodies[0])
	}
	unsigned := newAPI(t, url)
	if _, err := unsigned.Reshare(context.Background(), request.Refresh(l)); err == nil {
		t.Error("a reshare without an identity was requested")
	}
}
