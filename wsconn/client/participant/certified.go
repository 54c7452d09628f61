package participant

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// A key's certificates say which of its epochs counts, whatever the server says. They
// arrive in any number and order; only those that are verified, and whose chain is this
// party's own, are stored. See [EpochStore].

// keyRef names a key.
type keyRef struct{ id, address string }

// keyEpochs is what is stored here of a key's epochs.
type keyEpochs struct {
	lineage *statement.Lineage // nil without a certificate
	shares  []share.Public     // ascending by epoch
	numbers Numbers
}

// current returns the epoch that counts: the highest one with a certificate, else the
// first one, whose share needs none; 0 if there is neither.
func (k *keyEpochs) current() int {
	switch {
	case k.lineage != nil:
		return k.lineage.Epoch().Number
	case len(k.shares) > 0 && k.shares[0].Epoch == 1:
		return 1
	}
	return 0
}

// pending reports whether there is a share above the current epoch.
func (k *keyEpochs) pending() bool {
	n := len(k.shares)
	return n > 0 && k.shares[n-1].Epoch > k.current()
}

// certificate returns the text of the certificate that counts, "" if there is none.
func (k *keyEpochs) certificate() string {
	if k.lineage == nil {
		return ""
	}
	return k.lineage.Current().String()
}

func (p *participant) keyEpochs(ctx context.Context, ref keyRef) (*keyEpochs, error) {
	k := &keyEpochs{}
	if p.cfg.Epochs == nil {
		return k, nil
	}
	var err error
	if k.lineage, err = p.cfg.Epochs.Lineage(ctx, ref.id, ref.address); err == nil {
		if k.shares, err = p.cfg.Epochs.Epochs(ctx, ref.id, ref.address); err == nil {
			k.numbers, err = p.cfg.Epochs.Numbers(ctx, ref.id, ref.address, nil)
		}
	}
	if err != nil {
		p.log.Error().Err(err).Str("key", ref.id).Msg("epochs of the key cannot be read")
		return nil, errors.New("the epochs of the key cannot be read")
	}
	return k, nil
}

// shareOf returns the public part of the share of an epoch, nil if it is not here.
func (p *participant) shareOf(ctx context.Context, ref keyRef, epoch int) (*share.Public, error) {
	k, err := p.keyEpochs(ctx, ref)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(k.shares, func(s share.Public) bool { return s.Epoch == epoch })
	if i < 0 {
		return nil, nil
	}
	return &k.shares[i], nil
}

const (
	maxStaged = 64 // certificates that wait for those before them, and
	// maxStagedBytes is their size.
	maxStagedBytes = 8 << 20
	// fetchEvery is how often the same certificates are asked for.
	fetchEvery = 10 * time.Second
)

// staged is a certificate that cannot be verified yet.
type staged struct {
	ref  keyRef
	c    *statement.Certificate
	text string
}

// certified handles the certificate of an epoch. The error is the store's.
func (p *participant) certified(ctx context.Context, m *wire.EpochCertified) error {
	if p.cfg.Epochs == nil {
		return nil
	}
	c, err := statement.ParseAnyCertificate(m.Certificate)
	if err != nil {
		p.log.Warn().Err(err).Str("key", m.KeyID).Int("epoch", m.Epoch).Msg("certificate is not valid")
		return nil
	}
	return p.learn(ctx, c)
}

// learn verifies a certificate, with those staged, and stores what holds. The error is
// the store's.
func (p *participant) learn(ctx context.Context, c *statement.Certificate) error {
	var ref keyRef
	ref.id, ref.address = c.Key()
	p.switching.Lock()
	defer p.switching.Unlock()
	k, err := p.keyEpochs(ctx, ref)
	if err != nil {
		return fmtJournal(err)
	}
	if k.holds(c) {
		p.unstage(c)
		p.promote(ctx, ref) // it may have failed before
		return nil
	}
	p.stage(ref, c)
	list := p.chain(k, p.stagedOf(ref))
	for _, c := range list {
		if err := p.cfg.Epochs.PutCertificate(context.WithoutCancel(ctx), c); err != nil {
			return fmtJournal(err)
		}
		p.unstage(c)
		p.link.Emit(Certified{KeyID: ref.id, AccountAddr: ref.address, Epoch: c.Number()})
	}
	p.refute(ref, append(k.held(), list...))
	if len(p.stagedOf(ref)) > 0 {
		p.fetch(ref.id, 0) // what comes before it
	}
	if len(list) > 0 {
		p.mu.Lock()
		close(p.news)
		p.news = make(chan struct{})
		p.mu.Unlock()
		p.promote(ctx, ref)
		p.consentAgain(ctx, ref)
	}
	return nil
}

// chain returns those of the certificates that follow what is stored, in the order in
// which they do. Without anything stored it takes a chain in which this party has
// attested an epoch itself: only a genuine one has that.
func (p *participant) chain(k *keyEpochs, list []*statement.Certificate) []*statement.Certificate {
	slices.SortStableFunc(list, func(a, b *statement.Certificate) int { return cmp.Compare(a.Number(), b.Number()) })
	if k.lineage != nil {
		return grow(k.lineage.Certificates(), list)
	}
	for _, first := range list {
		if first.Parent() != nil {
			continue
		}
		chain := grow(nil, append([]*statement.Certificate{first}, list...))
		if slices.ContainsFunc(chain, func(c *statement.Certificate) bool { return c.Epoch != nil && p.member(c.Epoch) > 0 }) {
			return chain
		}
	}
	return nil
}

// grow returns, of an ascending list, the valid certificates that descend from those
// held, or without any from the first of the list, and are not held.
func grow(held, list []*statement.Certificate) []*statement.Certificate {
	known := map[statement.Hash]*statement.Lineage{}
	var more []*statement.Certificate
	for i, c := range slices.Concat(held, list) {
		if known[c.Hash()] != nil {
			continue
		}
		var before *statement.Lineage
		if parent := c.Parent(); parent != nil {
			before = known[parent.Hash]
		}
		if (before == nil) != (i == 0) { // only the first has nothing before it
			continue
		}
		l, err := before.Next(c)
		if err != nil {
			continue
		}
		known[c.Hash()] = l
		if i >= len(held) {
			more = append(more, c)
		}
	}
	return more
}

// held returns the certificates of the lineage that counts.
func (k *keyEpochs) held() []*statement.Certificate {
	if k.lineage == nil {
		return nil
	}
	return k.lineage.Certificates()
}

func (k *keyEpochs) holds(c *statement.Certificate) bool {
	hash := c.Hash()
	return slices.ContainsFunc(k.held(), func(h *statement.Certificate) bool { return h.Hash() == hash })
}

// member returns this party's part index in an epoch, 0 if it has none.
func (p *participant) member(e *statement.Epoch) int {
	for _, m := range e.Members {
		if m.Identity == p.identity.Public() {
			return m.Index
		}
	}
	return 0
}

// stage keeps a certificate until those before it have come; the oldest go first.
// p.switching is held, here and below.
func (p *participant) stage(ref keyRef, c *statement.Certificate) {
	text := c.String() // the hash does not cover the signatures: a forged copy has the same
	if slices.ContainsFunc(p.staged, func(s staged) bool { return s.text == text }) {
		return
	}
	p.staged = append(p.staged, staged{ref, c, text})
	size := 0
	for _, s := range p.staged {
		size += len(s.text)
	}
	for len(p.staged) > maxStaged || size > maxStagedBytes {
		size -= len(p.staged[0].text)
		p.staged = p.staged[1:]
	}
}

// refute drops the certificates that follow a stored one and were not found valid.
func (p *participant) refute(ref keyRef, stored []*statement.Certificate) {
	p.staged = slices.DeleteFunc(p.staged, func(s staged) bool {
		parent := s.c.Parent()
		return s.ref == ref && len(stored) > 0 && (parent == nil || slices.ContainsFunc(stored, func(c *statement.Certificate) bool { return c.Hash() == parent.Hash }))
	})
}

func (p *participant) stagedOf(ref keyRef) []*statement.Certificate {
	var list []*statement.Certificate
	for _, s := range p.staged {
		if s.ref == ref {
			list = append(list, s.c)
		}
	}
	return list
}

func (p *participant) unstage(c *statement.Certificate) {
	hash := c.Hash()
	p.staged = slices.DeleteFunc(p.staged, func(s staged) bool { return s.c.Hash() == hash })
}

// fetch asks the server for the certificates of a key's epochs above one. They come as
// messages.
func (p *participant) fetch(keyID string, above int) {
	now := time.Now()
	p.mu.Lock()
	last, asked := p.fetched[keyID]
	if asked && now.Sub(last) < fetchEvery {
		p.mu.Unlock()
		return
	}
	if len(p.fetched) >= maxFetched {
		clear(p.fetched)
	}
	p.fetched[keyID] = now
	p.mu.Unlock()
	p.send("", &wire.CertificateGet{KeyID: keyID, Epoch: above}, func(wire.Ack, *wire.Error) {})
}

// maxFetched is of how many keys the time of the last fetch is remembered.
const maxFetched = 1024

// promote makes the epoch that counts this party's own: it takes the identities of its
// members for known, and deletes the shares of lower epochs. It deletes nothing before
// it has read its own share of the epoch and compared it with the certificate. A failure
// is only logged, and tried again with the next certificate and the next start.
// p.switching is held.
func (p *participant) promote(ctx context.Context, ref keyRef) {
	ctx = context.WithoutCancel(ctx)
	k, err := p.keyEpochs(ctx, ref)
	if err != nil || k.lineage == nil {
		return
	}
	e := k.lineage.Epoch()
	log := p.log.With().Str("key", ref.id).Int("epoch", e.Number).Logger()
	p.adopt(k, e)
	if len(k.shares) == 0 || k.shares[0].Epoch >= e.Number {
		return
	}
	if p.member(e) > 0 {
		if err := p.reread(ctx, ref, e); err != nil {
			log.Error().Err(err).Msg("share of the certified epoch is missing, the shares before it are kept")
			p.link.Emit(ShareMissing{KeyID: ref.id, AccountAddr: ref.address, Epoch: e.Number, Err: err})
			return
		}
	}
	for _, s := range k.shares {
		if s.Epoch >= e.Number {
			break
		}
		if err := p.cfg.Epochs.DeleteEpoch(ctx, ref.id, ref.address, s.Epoch); err != nil {
			log.Error().Err(err).Int("of", s.Epoch).Msg("share of an epoch that is over cannot be deleted")
			return
		}
	}
	log.Info().Msg("key has moved to another epoch")
}

// reread opens the share of a certified epoch as it is stored, and compares it with the
// certificate.
func (p *participant) reread(ctx context.Context, ref keyRef, e *statement.Epoch) error {
	text, err := p.cfg.Epochs.GetEpoch(ctx, ref.id, ref.address, e.Number)
	if err != nil {
		return err
	}
	held, err := share.Open(text, p.identity)
	if err != nil {
		return err
	}
	return held.CheckEpoch(e)
}

// adopt takes the members of an epoch for known by its identities: only if this party
// has itself agreed to the epoch, with them before its approver's eyes.
func (p *participant) adopt(k *keyEpochs, e *statement.Epoch) {
	if e.Parent == nil || p.member(e) == 0 && k.numbers.Consents[e.Number] != e.Hash() {
		return
	}
	for _, m := range e.Members {
		if err := p.adoptMember(m); err != nil {
			p.log.Error().Err(err).Str("key", e.KeyID).Str("account", m.User).Msg("identity of a member cannot be noted")
		}
	}
}

func (p *participant) adoptMember(m identity.Member) error {
	if m.Identity == p.identity.Public() {
		return nil
	}
	known, ok, err := p.cfg.Trust.Look(m.User)
	if err != nil || ok && known.Fingerprint == m.Identity.Fingerprint() {
		return err
	}
	if ok && p.cfg.Trust.Adopt != nil {
		return p.cfg.Trust.Adopt(m.User, m.Identity)
	}
	return p.cfg.Trust.Trust(m.User, m.Identity)
}
