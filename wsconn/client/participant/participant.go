// Package participant holds shares of keys: it answers invitations, and takes part in
// key generations, signings and reshares.
//
// Start here: [Serve] does all of it for a client of package wsconn/client.
//
//	store, err := dirstore.Open(dir)
//	identity, _, err := dirstore.LoadIdentity(filepath.Join(dir, "identity"), passphrase)
//	c, err := client.New(client.Config{URLs: urls, Token: source, Identity: identity})
//	err = participant.Serve(ctx, c, participant.Config{Shares: store, Approve: approve})
//
// Package dirstore keeps shares, journal and known identities in files; other stores
// implement [ShareStore], [Journal] and trust.Store. The [MemStore] is for tests. The
// MPC itself is package session/party.
//
// A participant records in its [Journal] its promises and started runs, so that
// after a restart it knows its agreements, and never runs the same attempt of the
// MPC twice.
//
// The server is trusted only where necessary: a participant computes the digest that
// it signs itself, compares the parameters of a run with the approved invitation, and
// the parties' identities with those of the key. It checks that its approver sees
// exactly what was signed, by the identity known as that coordinator; an approver
// without a person behind it ([ApproveAll], [ByPolicy], [SignedOnly]) accepts
// nothing else. Evidence that convicts a party is kept ([EvidenceStore]).
//
// # Requirements
//
// A program that imports this package needs one line in its go.mod beside the
// requirement. tss-lib demands it, and Go takes it from the main module only:
//
//	replace github.com/agl/ed25519 => github.com/binance-chain/edwards25519 v0.0.0-20200305024217-f36fc4b53d43
//
// # Goroutines and locks
//
// [Participant.Serve] owns all goroutines and returns when these have ended: those
// of the client, one for each question to the approver and each run, one that makes
// pre-parameters, and one that ends waits that last too long. The mutexes guard
// their own struct's fields and are not held over I/O, but for the one that switches
// epochs, of which there is one change at a time.
package participant

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
)

// Config configures a participant. Approve and Shares are required.
type Config struct {
	// Approve decides about each invitation, in a goroutine of its own.
	Approve Approver
	// Shares keeps sealed shares.
	Shares ShareStore
	// Journal keeps the participant's promises and started runs. Zero value means
	// Shares, if it is a Journal too.
	Journal Journal
	// Trust decides which identities are those of parties and coordinators. With
	// PinnedOnly it refuses those not pinned by hand. Known and Trust, where
	// nil, are those of Shares if it is a [trust.Store] too; else Trust is required.
	Trust trust.Policy
	// Epochs keeps the epochs of keys. Zero value means Shares, if it is an [EpochStore]
	// too; without one reshares are declined.
	Epochs EpochStore
	// Evidence keeps evidence that convicts a party. Zero value means Shares, if it
	// is an [EvidenceStore] too.
	Evidence EvidenceStore
	// PreParams supplies the pre-parameters of secp256k1 key generations. Zero
	// value means that they are made when an invitation is approved.
	PreParams PreParamsSource
	// Concurrency is how many cores a run may use. Zero value means all.
	Concurrency int
	// MaxSessions is how many sessions a participant has open at once: those
	// put to the approver, and those accepted. Others wait. Each pinned
	// coordinator may have half of them, and always has 4 of its own, if necessary
	// beyond MaxSessions; one known by an earlier approval may have a quarter; all
	// others share a quarter; and coordinators that are not pinned have at most
	// half together. For these accounts at most 2, 1/2 and 1 times MaxSessions
	// wait; further ones are declined. Zero value means 64.
	MaxSessions int
	// AskAtOnce is how many invitations are with the approver at once. The next one
	// is a pinned coordinator's if there is any, else a known one's, else a
	// stranger's. An approver at a terminal needs 1. Zero value means MaxSessions
	// and the places of pinned coordinators beyond it.
	AskAtOnce int
	// SignedOnly declines requests not signed by a pinned coordinator without
	// calling the approver, and without recording them: for approvers that would
	// decline them anyway, see the function [SignedOnly].
	SignedOnly bool
	// KeygensPerHour is how many keygens and reshares of one coordinator are approved in
	// an hour, and of all unknown ones together: each costs a set of pre-parameters
	// and the place of a share. Zero value means 120, a negative one no bound.
	KeygensPerHour int
	// SignSilence and KeygenSilence are how long a run may wait for others before
	// it names them and fails; KeygenSilence is for a reshare too. Zero values mean 15
	// seconds and 2 minutes.
	SignSilence   time.Duration
	KeygenSilence time.Duration
}

func (cfg *Config) setDefaults() {
	if cfg.SignSilence <= 0 {
		cfg.SignSilence = 15 * time.Second
	}
	if cfg.KeygenSilence <= 0 {
		cfg.KeygenSilence = 2 * time.Minute
	}
	if cfg.MaxSessions <= 0 {
		cfg.MaxSessions = 64
	}
	if cfg.AskAtOnce <= 0 {
		cfg.AskAtOnce = math.MaxInt
	}
	if cfg.KeygensPerHour == 0 {
		cfg.KeygensPerHour = 120
	}
	if cfg.Journal == nil {
		cfg.Journal, _ = cfg.Shares.(Journal)
	}
	if s, ok := cfg.Shares.(trust.Store); ok {
		if cfg.Trust.Known == nil {
			cfg.Trust.Known = s.Known
		}
		if cfg.Trust.Trust == nil {
			cfg.Trust.Trust = s.Trust
		}
	}
	if a, ok := cfg.Shares.(trust.Adopter); ok && cfg.Trust.Adopt == nil {
		cfg.Trust.Adopt = a.Adopt
	}
	if cfg.Epochs == nil {
		cfg.Epochs, _ = cfg.Shares.(EpochStore)
	}
	if cfg.Evidence == nil {
		cfg.Evidence, _ = cfg.Shares.(EvidenceStore)
	}
	if cfg.PreParams == nil {
		cfg.PreParams = &PreParamsMaker{Concurrency: cfg.Concurrency}
	}
}

// Participant takes part in sessions for one user.
type Participant struct {
	client *client.Client
	serve  *participant
}

// New returns a participant that does nothing before Serve. The client must not be
// running, and has an Identity.
func New(c *client.Client, cfg Config) (*Participant, error) {
	cfg.setDefaults()
	switch {
	case cfg.Approve == nil:
		return nil, errors.New("client: Serve needs an approver")
	case cfg.Shares == nil || cfg.Journal == nil:
		return nil, errors.New("client: a participant needs a share store and a journal")
	case cfg.Trust.Trust == nil:
		return nil, errors.New("client: a participant needs a Trust: set it, or use a store that keeps known identities")
	}
	return &Participant{c, newParticipant(cfg)}, nil
}

// Serve keeps the client connected, passes each invitation to Approve and takes
// part in the approved ones, until ctx ends, and then returns nil; or it returns a
// permanent error, as [client.Client.Run] does. It is called once.
func (p *Participant) Serve(ctx context.Context) error { return p.client.Serve(ctx, p.serve) }

// Waiting returns how many invitations wait for their turn with the approver.
func (p *Participant) Waiting() int {
	p.serve.mu.Lock()
	defer p.serve.mu.Unlock()
	return len(p.serve.waiting)
}

// Serve is [New] and [Participant.Serve].
func Serve(ctx context.Context, c *client.Client, cfg Config) error {
	p, err := New(c, cfg)
	if err != nil {
		return err
	}
	return p.Serve(ctx)
}
