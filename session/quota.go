package session

import (
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Quota bounds what one account, as the coordinator of sessions, may store in
// the cluster at a time, over all nodes. A negative field means no limit, zero
// the default.
type Quota struct {
	// OpenSessions is how many of its sessions may be open. Zero means
	// DefaultOpenSessions.
	OpenSessions int
	// OpenBytes is how many bytes these may take, with the messages they have sent and
	// may still send ([Session.OpenBytes]). Zero means DefaultOpenBytes.
	OpenBytes int64
	// EndedBytes is how many bytes of ended sessions are kept for the whole retention.
	// Beyond it, up to BriefFactor times as many are kept for [BriefRetention], and
	// beyond that nothing new may begin. Reserved key ids and the notes of idempotency
	// keys count too. Zero means DefaultEndedBytes.
	EndedBytes int64
	// KeyBytes is how many bytes its keys may take; keys never expire. Zero means
	// DefaultKeyBytes.
	KeyBytes int64
}

// Defaults for Quota's zero values.
const (
	DefaultOpenSessions = 1024
	DefaultOpenBytes    = 64 << 20
	DefaultEndedBytes   = 8 << 20
	DefaultKeyBytes     = 256 << 20
)

const (
	// BriefRetention is how long an ended session is kept if its account is over its
	// allowance; the store's retention if that is shorter.
	BriefRetention = 15 * time.Minute
	// ReservedFor is how long an unused reserved key id is kept, and the note of an
	// idempotency key.
	ReservedFor = 7 * 24 * time.Hour
	// BriefFactor is how many times Quota.EndedBytes may be kept for BriefRetention.
	BriefFactor = 4
)

// Complete returns q with its defaults in place of zeros.
func (q Quota) Complete() Quota {
	if q.OpenSessions == 0 {
		q.OpenSessions = DefaultOpenSessions
	}
	for _, f := range []struct {
		field  *int64
		preset int64
	}{{&q.OpenBytes, DefaultOpenBytes}, {&q.EndedBytes, DefaultEndedBytes}, {&q.KeyBytes, DefaultKeyBytes}} {
		if *f.field == 0 {
			*f.field = f.preset
		}
	}
	return q
}

// MostBytes is the most bytes that one account can store in Redis, without its keys'
// and without audit entries; negative for no limit.
func (q Quota) MostBytes() int64 {
	q = q.Complete()
	if q.OpenBytes < 0 || q.EndedBytes < 0 {
		return -1
	}
	return q.OpenBytes + (1+BriefFactor)*q.EndedBytes
}

// Limit names a limit of a [Quota], for metrics and messages.
type Limit string

// The limits.
const (
	LimitSessions Limit = "open_sessions"
	LimitOpen     Limit = "open_bytes"
	LimitEnded    Limit = "ended_bytes"
	LimitKeys     Limit = "key_bytes"
)

// Estimates of what Redis uses besides the text: hash fields, stream entries, members
// of sorted sets. TestQuotaIsTrue compares them with a real Redis.
const (
	recordBytes = 1 << 10 // a session's or key's hash with its short fields
	partyBytes  = 192     // one party in a session's hash
	frameBytes  = 512     // a message's envelope and short fields
	listedBytes = 192     // an entry in one user's list
	minKept     = 2 << 10 // the least for any session: its audit entries count too
)

// OpenBytes bounds the memory that s takes in Redis while it is open: its record and
// what its parties may add to it, the invitations in the outbox and in each mailbox,
// and the parameters of one attempt with the parties' shares, shares bytes together.
func (s Session) OpenBytes(shares int64) int64 {
	n, invited := int64(len(s.Parties)), int64(len(s.InvitedUsers()))
	content := jsonBytes(s.Data) + jsonBytes(s.Digest)
	said := 2 * invited * (frameBytes + content + jsonBytes(s.SignedRequest) + s.namesBytes())
	r, signers := s.Kind.rules(), n
	if r.quorum {
		signers = int64(s.Threshold)
	}
	said += signers*(frameBytes+content+signers*(wire.MaxIdentityBytes+wire.MaxIDBytes)) + shares
	more, record := int64(0), int64(0)
	if r.extra != nil {
		more, record = r.extra(s)
	}
	said += more
	grown := n * (wire.MaxIdentityBytes + wire.MaxReasonBytes + r.grown)
	return recordBytes + allocated(len(s.Data), len(s.Digest), len(s.SignedRequest), int(record)) + n*partyBytes + s.listBytes() + grown + allocated(int(said))
}

// KeptBytes bounds the memory that s takes in Redis after its end, including the key
// record of a failed keygen.
func (s Session) KeptBytes() int64 {
	n := int64(len(s.Parties))
	kept := recordBytes + allocated(len(s.Data), len(s.Digest)) + n*partyBytes + s.listBytes() + wire.MaxReasonBytes
	if s.Kind.MakesKey() {
		kept += recordBytes + s.namesBytes() + n*wire.MaxAttestationBytes
	}
	if r := s.Kind.rules(); r.makesEpoch {
		_, record := r.extra(s)
		kept += n*r.grown + allocated(int(record))
	}
	return max(kept, minKept)
}

// allocated bounds what Redis allocates for texts of those lengths: a quarter more.
func allocated(lengths ...int) (sum int64) {
	for _, n := range lengths {
		sum += int64(n + n/4)
	}
	return sum
}

// Allocated bounds what Redis allocates for a text of that length.
func Allocated(length int) int64 { return allocated(length) }

// namesBytes is the size of all parties' names.
func (s Session) namesBytes() int64 {
	sum := int64(0)
	for _, p := range s.Parties {
		sum += int64(len(p.User)) + 4
	}
	return sum
}

// listBytes is the size of s's entries in the lists of everyone involved, and in the
// list of all.
func (s Session) listBytes() int64 {
	return (int64(len(s.Parties)) + 2) * (listedBytes + int64(len(s.ID)))
}

// KeyBytes bounds the memory that a key takes permanently, shares being the bytes of
// all its shares.
func (k Key) KeyBytes(shares int64) int64 {
	n := int64(len(k.Participants))
	s := Session{ID: k.ID, Parties: Committee(k.Participants)}
	return recordBytes + s.namesBytes() + s.listBytes() + n*wire.MaxAttestationBytes + shares + shares/4
}

// ReservedBytes bounds the memory that k takes while its id is only reserved.
func (k Key) ReservedBytes() int64 {
	return recordBytes + Session{Parties: Committee(k.Participants)}.namesBytes()
}

// LargestSession is the OpenBytes of the largest session in a cluster of that many
// parties: a signing by all with the most data, or a keygen with the largest shares.
func LargestSession(parties int) int64 {
	if parties == 0 {
		parties = wire.DefaultMaxParties
	}
	name := strings.Repeat("n", wire.MaxIDBytes)
	s := Session{ID: name, Threshold: parties, SignedRequest: strings.Repeat("s", wire.MaxSignedRequestBytes)}
	for range parties {
		s.Parties = append(s.Parties, Party{User: name, Invited: true})
	}
	shares := int64(parties * wire.ShareLimit(parties))
	most := int64(0)
	for kind, r := range kinds {
		largest := s
		largest.Kind = kind
		r.fill(&largest)
		most = max(most, largest.OpenBytes(shares))
	}
	return most
}

// jsonBytes is the length of s as a JSON string.
func jsonBytes(s string) int64 { return int64(wire.JSONBytes(s)) }
