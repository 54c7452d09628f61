package sessions

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Generators are not safe for tests that run in parallel, so these do not.
var (
	names   = rapid.StringMatching(`[a-zé_.@-]{1,12}`)
	words   = rapid.StringN(0, 20, -1)
	moments = rapid.Custom(func(t *rapid.T) time.Time {
		us := rapid.Int64Range(0, 4e15).Draw(t, "us")
		if us%5 == 0 {
			return time.Time{}
		}
		return time.UnixMicro(us).UTC()
	})
	spans = rapid.Map(rapid.Int64Range(0, int64(24*time.Hour)), func(n int64) time.Duration { return time.Duration(n) })
)

func drawParts(t *rapid.T, n int, name string) []int {
	parts := rapid.SliceOfNDistinct(rapid.IntRange(1, n), 0, n, rapid.ID[int]).Draw(t, name)
	if len(parts) == 0 {
		return nil
	}
	slices.Sort(parts)
	return parts
}

func drawSession(t *rapid.T) session.Session {
	parties := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) session.Party {
		return session.Party{
			User: names.Draw(t, "user"), Invited: rapid.Bool().Draw(t, "invited"), Identity: words.Draw(t, "identity"),
			Response: rapid.SampledFrom([]session.Response{session.Unanswered, session.Accepted, session.Declined}).Draw(t, "response"),
			Result:   words.Draw(t, "result"), Key: words.Draw(t, "key"),
			Attested: words.Draw(t, "attested"), Consent: words.Draw(t, "consent"), Highest: rapid.IntRange(0, 9).Draw(t, "highest"), Strikes: rapid.IntRange(0, 9).Draw(t, "strikes"),
			Out: rapid.Bool().Draw(t, "out"), NoRoom: rapid.Bool().Draw(t, "no room"), AbsentSince: moments.Draw(t, "absent since"),
		}
	}), 1, 20, func(p session.Party) string { return p.User }).Draw(t, "parties")
	n := len(parties)
	s := session.Session{
		ID:   names.Draw(t, "id"),
		Kind: rapid.SampledFrom([]session.Kind{session.Keygen, session.Sign, session.Reshare}).Draw(t, "kind"),
		Phase: rapid.SampledFrom([]session.Phase{
			session.Inviting, session.Running, session.Completed, session.Rejected, session.Expired, session.Failed, session.Cancelled,
		}).Draw(t, "phase"),
		Version: rapid.Int64Min(0).Draw(t, "version"), Attempt: rapid.IntRange(0, 16).Draw(t, "attempt"),
		KeyID: names.Draw(t, "key id"), Coordinator: names.Draw(t, "coordinator"), Curve: pubkey.Ed25519,
		Threshold: rapid.IntRange(0, n).Draw(t, "threshold"), Parties: parties,
		Signers: drawParts(t, n, "signers"), Culprits: drawParts(t, n, "culprits"),
		Data: words.Draw(t, "data"), Hash: pubkey.HashNone, Digest: words.Draw(t, "digest"),
		AccountAddr: words.Draw(t, "address"), PublicKey: words.Draw(t, "public key"), Signature: words.Draw(t, "signature"),
		RequestID: words.Draw(t, "request id"), Fingerprint: words.Draw(t, "fingerprint"), SignedRequest: words.Draw(t, "signed request"),
		Terms:     session.Terms{Invite: spans.Draw(t, "invite"), Run: spans.Draw(t, "run"), Grace: spans.Draw(t, "grace")},
		CreatedAt: moments.Draw(t, "created"), Deadline: moments.Draw(t, "deadline"),
		Epoch: rapid.IntRange(0, 9).Draw(t, "epoch"), MinEpoch: rapid.IntRange(0, 9).Draw(t, "min epoch"), Named: rapid.Bool().Draw(t, "named"),
		Old: rapid.IntRange(0, n).Draw(t, "old"), FromEpoch: rapid.IntRange(0, 9).Draw(t, "from"), Next: rapid.IntRange(0, 9).Draw(t, "next"),
		ToThreshold: rapid.IntRange(0, n).Draw(t, "to threshold"), Parent: words.Draw(t, "parent"), Origin: words.Draw(t, "origin"),
		Statement: words.Draw(t, "statement"),
		ExpiresAt: moments.Draw(t, "expires"), EndedAt: moments.Draw(t, "ended"), Reason: words.Draw(t, "reason"),
	}
	for range rapid.IntRange(0, 4).Draw(t, "quorums") {
		if q := drawParts(t, n, "quorum"); q != nil {
			s.Quorums = append(s.Quorums, wire.FormatParts(q))
		}
	}
	return s
}

// stored returns the hash of encoded pairs as Redis would keep it.
func stored(pairs []any) map[string]string {
	fields := make(map[string]string, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		fields[pairs[i].(string)] = fmt.Sprint(pairs[i+1])
	}
	return fields
}

func TestSessionRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawSession(t)
		pairs := encodeSession(want)
		fields := stored(pairs)
		if len(fields) != len(pairs)/2 {
			t.Fatal("a field is written twice")
		}
		got, err := parseSession(want.ID, fields)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestKeyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := session.Key{
			ID: names.Draw(t, "id"), Status: session.KeyActive, Curve: pubkey.Secp256k1,
			AccountAddr: words.Draw(t, "address"), PublicKey: words.Draw(t, "public key"), Epoch: rapid.IntRange(1, 9).Draw(t, "epoch"),
			Threshold: rapid.IntRange(2, 9).Draw(t, "threshold"), Participants: rapid.SliceOfN(names, 1, 9).Draw(t, "participants"),
			Coordinator: names.Draw(t, "coordinator"), Session: names.Draw(t, "session"),
			CreatedAt: moments.Draw(t, "created"), Version: rapid.Int64Min(0).Draw(t, "version"),
			Certificate: words.Draw(t, "certificate"), Origin: words.Draw(t, "origin"),
		}
		want.Highest = want.Epoch + rapid.IntRange(0, 9).Draw(t, "burnt numbers")
		fields := stored(encodeKey(want))
		fields["open:sg-1"], fields["last_signing"] = "f boss 1", "sg-0" // not in the record
		got, err := parseKey(want.ID, fields)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestKeyBeforeEpochs: a record older than epochs is of the first epoch.
func TestKeyBeforeEpochs(t *testing.T) {
	fields := stored(encodeKey(session.Key{ID: "old", Status: session.KeyActive, Epoch: 1, Threshold: 2, Participants: []string{"a", "b"}}))
	if fields["epoch"] != "1" {
		t.Fatalf("stored as %v, want epoch 1", fields)
	}
	delete(fields, "epoch")
	delete(fields, "highest")
	if k, err := parseKey("old", fields); err != nil || k.Epoch != 1 || k.Highest != 1 || k.Info().Epoch != 1 {
		t.Errorf("got epoch %d, highest %d, %v, want 1 and 1", k.Epoch, k.Highest, err)
	}
}

// TestParseAnything gives the parsers valid hashes with a few arbitrary fields: an
// error or a value, never a panic.
func TestParseAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSession(t)
		fields := stored(encodeSession(s))
		var all []string
		for name := range fields {
			all = append(all, name)
		}
		slices.Sort(all)
		odd := rapid.OneOf(words, rapid.StringMatching(`[0-9,:TZ.-]{0,30}`), rapid.Just(strings.Repeat("1,", 1000)), rapid.Just(""))
		for range rapid.IntRange(1, 5).Draw(t, "changes") {
			name := rapid.OneOf(rapid.SampledFrom(all), words).Draw(t, "field")
			fields[name] = odd.Draw(t, "value")
		}
		_, _ = parseSession(s.ID, fields)
		_, _ = parseKey(s.ID, fields)
	})
}

func TestParseNamesTheFault(t *testing.T) {
	t.Parallel()
	for _, field := range []string{"version", "attempt", "created_at", "deadline", "run_timeout", "signers", "culprits", "strikes:1"} {
		fields := stored(encodeSession(session.Session{Parties: []session.Party{{User: "alice"}}}))
		fields[field] = "x"
		if _, err := parseSession("s", fields); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got error %v", field, err)
		}
	}
}
