package sessions

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// record collects the fields of a hash; empty values are omitted.
type record []any

func (r *record) text(name, v string) {
	if v != "" {
		*r = append(*r, name, v)
	}
}

func (r *record) number(name string, v int64) { *r = append(*r, name, v) }

func (r *record) count(name string, v int) {
	if v != 0 {
		r.number(name, int64(v))
	}
}

func (r *record) time(name string, v time.Time) {
	if !v.IsZero() {
		r.text(name, v.UTC().Format(time.RFC3339Nano))
	}
}

func (r *record) flag(name string, v bool) {
	if v {
		r.text(name, "yes")
	}
}

// encodeSession encodes a session as field and value pairs. A party's own fields
// end in a colon and its part index.
func encodeSession(s session.Session) []any {
	var r record
	r.text("kind", string(s.Kind))
	r.text("phase", string(s.Phase))
	r.number("version", s.Version)
	r.count("attempt", s.Attempt)
	r.text("key_id", s.KeyID)
	r.text("coordinator", s.Coordinator)
	r.text("curve", string(s.Curve))
	r.number("threshold", int64(s.Threshold))
	r.text("participants", joined(s.Users()))
	r.text("signers", wire.FormatParts(s.Signers))
	r.text("quorums", strings.Join(s.Quorums, " "))
	r.text("data", s.Data)
	r.text("hash", string(s.Hash))
	r.text("digest", s.Digest)
	r.text("account_addr", s.AccountAddr)
	r.text("public_key", s.PublicKey)
	r.text("signature", s.Signature)
	r.text("request_id", s.RequestID)
	r.text("fingerprint", s.Fingerprint)
	r.count("epoch", s.Epoch)
	r.count("min_epoch", s.MinEpoch)
	r.flag("named", s.Named)
	r.count("old", s.Old)
	r.count("from_epoch", s.FromEpoch)
	r.count("next_epoch", s.Next)
	r.count("to_threshold", s.ToThreshold)
	r.text("parent", s.Parent)
	r.text("origin", s.Origin)
	r.text("statement", s.Statement)
	r.text("signed_request", s.SignedRequest)
	r.flag("web", s.Web)
	r.flag("brief", s.Brief)
	r.text("invite_timeout", s.Terms.Invite.String())
	r.text("run_timeout", s.Terms.Run.String())
	r.text("absence_grace", s.Terms.Grace.String())
	r.time("created_at", s.CreatedAt)
	r.time("deadline", s.Deadline)
	r.time("expires_at", s.ExpiresAt)
	r.time("ended_at", s.EndedAt)
	r.text("reason", s.Reason)
	r.text("culprits", wire.FormatParts(s.Culprits))
	for i, p := range s.Parties {
		at := ":" + strconv.Itoa(i+1)
		r.flag("invited"+at, p.Invited)
		r.text("response"+at, string(p.Response))
		r.text("identity"+at, p.Identity)
		r.text("result"+at, p.Result)
		r.text("result_key"+at, p.Key)
		r.text("attestation"+at, p.Attested)
		r.text("consent"+at, p.Consent)
		r.count("highest"+at, p.Highest)
		r.count("strikes"+at, p.Strikes)
		r.flag("out"+at, p.Out)
		r.flag("no_room"+at, p.NoRoom)
		r.time("absent_since"+at, p.AbsentSince)
	}
	return r
}

// encodeKey encodes a key record as field and value pairs.
func encodeKey(k session.Key) []any {
	var r record
	r.text("status", string(k.Status))
	r.number("version", k.Version)
	r.text("curve", string(k.Curve))
	r.text("account_addr", k.AccountAddr)
	r.text("public_key", k.PublicKey)
	r.number("epoch", int64(max(k.Epoch, 1)))
	r.number("highest", int64(max(k.Highest, k.Epoch, 1)))
	r.number("threshold", int64(k.Threshold))
	r.number("total_parts", int64(len(k.Participants)))
	r.text("participants", joined(k.Participants))
	r.text("coordinator", k.Coordinator)
	r.text("session", k.Session)
	r.text("certificate", k.Certificate)
	r.text("origin", k.Origin)
	if k.ShareBytes != 0 {
		r.number("share_bytes", k.ShareBytes)
	}
	r.time("created_at", k.CreatedAt)
	return r
}

// reader takes fields out of a hash and collects errors.
type reader struct {
	fields map[string]string
	errs   []error
}

func (r *reader) text(name string) string { return r.fields[name] }

func (r *reader) flag(name string) bool { return r.fields[name] == "yes" }

func (r *reader) fault(name string, err error) {
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("field %s: %w", name, err))
	}
}

func (r *reader) number(name string) int64 {
	text := r.fields[name]
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	r.fault(name, err)
	return n
}

func (r *reader) time(name string) time.Time {
	text := r.fields[name]
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	r.fault(name, err)
	return t.UTC()
}

func (r *reader) duration(name string) time.Duration {
	d, err := time.ParseDuration(r.fields[name])
	r.fault(name, err)
	return d
}

func (r *reader) parts(name string) []int {
	text := r.fields[name]
	if text == "" {
		return nil
	}
	parts, err := wire.ParseParts(text)
	r.fault(name, err)
	return parts
}

func parseSession(id string, fields map[string]string) (session.Session, error) {
	r := reader{fields: fields}
	s := session.Session{
		ID: id, Kind: session.Kind(r.text("kind")), Phase: session.Phase(r.text("phase")), Version: r.number("version"),
		Attempt: int(r.number("attempt")), KeyID: r.text("key_id"), Coordinator: r.text("coordinator"),
		Curve: pubkey.Curve(r.text("curve")), Threshold: int(r.number("threshold")), Signers: r.parts("signers"),
		Data: r.text("data"), Hash: pubkey.Hash(r.text("hash")), Digest: r.text("digest"),
		AccountAddr: r.text("account_addr"), PublicKey: r.text("public_key"), Signature: r.text("signature"),
		RequestID: r.text("request_id"), Fingerprint: r.text("fingerprint"), SignedRequest: r.text("signed_request"), Web: r.flag("web"), Brief: r.flag("brief"),
		Terms:     session.Terms{Invite: r.duration("invite_timeout"), Run: r.duration("run_timeout"), Grace: r.duration("absence_grace")},
		CreatedAt: r.time("created_at"), Deadline: r.time("deadline"), ExpiresAt: r.time("expires_at"), EndedAt: r.time("ended_at"),
		Reason: r.text("reason"), Culprits: r.parts("culprits"),
		Epoch: int(r.number("epoch")), MinEpoch: int(r.number("min_epoch")), Named: r.flag("named"), Old: int(r.number("old")),
		FromEpoch: int(r.number("from_epoch")), Next: int(r.number("next_epoch")), ToThreshold: int(r.number("to_threshold")),
		Parent: r.text("parent"), Origin: r.text("origin"), Statement: r.text("statement"),
	}
	if quorums := r.text("quorums"); quorums != "" {
		s.Quorums = strings.Split(quorums, " ")
	}
	for i, user := range split(r.text("participants")) {
		at := ":" + strconv.Itoa(i+1)
		s.Parties = append(s.Parties, session.Party{
			User: user, Invited: r.flag("invited" + at), Response: session.Response(r.text("response" + at)),
			Identity: r.text("identity" + at), Result: r.text("result" + at), Key: r.text("result_key" + at),
			Attested: r.text("attestation" + at), Consent: r.text("consent" + at), Highest: int(r.number("highest" + at)),
			Strikes: int(r.number("strikes" + at)), Out: r.flag("out" + at), NoRoom: r.flag("no_room" + at), AbsentSince: r.time("absent_since" + at),
		})
	}
	return s, errors.Join(r.errs...)
}

func parseKey(id string, fields map[string]string) (session.Key, error) {
	r := reader{fields: fields}
	k := session.Key{
		ID: id, Status: session.KeyStatus(r.text("status")), Version: r.number("version"), Curve: pubkey.Curve(r.text("curve")),
		AccountAddr: r.text("account_addr"), PublicKey: r.text("public_key"), Threshold: int(r.number("threshold")),
		Participants: split(r.text("participants")), Coordinator: r.text("coordinator"), Session: r.text("session"),
		ShareBytes: r.number("share_bytes"), CreatedAt: r.time("created_at"),
		Epoch:       max(int(r.number("epoch")), 1), // records older than epochs have none
		Certificate: r.text("certificate"), Origin: r.text("origin"), Reshare: r.text("reshare"),
	}
	k.Highest = max(int(r.number("highest")), k.Epoch)
	if since := r.number("reshare_since"); since != 0 {
		k.ReshareSince = time.UnixMilli(since).UTC()
	}
	return k, errors.Join(r.errs...)
}
