package participant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Reshare is what an invitation to a reshare has beside the fields of all: the two
// committees. All of it but From, Epoch, Places and Origin is signed by the coordinator;
// a member of the old committee compares From with its own share.
type Reshare struct {
	// Epoch is the number of the first attempt, unless a member has seen it before.
	Epoch int       `json:"epoch"`
	From  Committee `json:"from"`
	To    Committee `json:"to"`
	// Places are those with which this party takes part: of the old committee the part
	// index, of the new one len(From.Members) and the part index.
	Places    []int  `json:"places"`
	PublicKey string `json:"public_key"`
	// Parent is the hash (0x hex) of the certificate of From.Epoch.
	Parent string `json:"parent"`
	// Origin is the key's, as the server says: generated or imported.
	Origin string `json:"origin"`
	// Unpinned are the users of To that a person must confirm by their fingerprint: their
	// identity is new to the key, or differs from the one known here, and is not pinned.
	Unpinned []string `json:"unpinned,omitempty"`
}

// Committee is the parties of an epoch.
type Committee struct {
	Epoch     int      `json:"epoch,omitempty"` // of a certified one
	Threshold int      `json:"threshold"`
	Members   []Member `json:"members"` // Members[i] has part index i+1
}

// Member is a party of a [Committee].
type Member struct {
	User string `json:"user_id"`
	// Identity is the whole identity, as text. The old committee has none.
	Identity string `json:"identity,omitempty"`

	// The rest is for the approver. Fingerprint is the identity's; Joins says that the
	// key's old committee has no such member, and Device that it has this user with
	// another identity. Pinned says that this identity was pinned by hand, and Known is
	// the fingerprint by which the user is known here, if it is another one.
	Fingerprint string `json:"fingerprint,omitempty"`
	Joins       bool   `json:"joins,omitempty"`
	Device      bool   `json:"new_device,omitempty"`
	Pinned      bool   `json:"pinned,omitempty"`
	Known       string `json:"known,omitempty"`
}

// Users returns the user ids of a committee, by part.
func (c Committee) Users() []string {
	users := make([]string, len(c.Members))
	for i, m := range c.Members {
		users[i] = m.User
	}
	return users
}

// old is the number of places of the old committee.
func (r *Reshare) old() int { return len(r.From.Members) }

// newPlace returns this party's place in the new committee, 0 if it has none.
func (r *Reshare) newPlace() int {
	for _, place := range r.Places {
		if place > r.old() {
			return place
		}
	}
	return 0
}

// oldPlace returns this party's place in the old committee, 0 if it takes no part there.
func (r *Reshare) oldPlace() int {
	if len(r.Places) > 0 && r.Places[0] <= r.old() {
		return r.Places[0]
	}
	return 0
}

// members returns the new committee as the request binds it.
func (r *Reshare) members() ([]identity.Member, error) {
	list := make([]identity.Member, len(r.To.Members))
	for i, m := range r.To.Members {
		id, err := identity.ParsePublic(m.Identity)
		if err != nil {
			return nil, fmt.Errorf("the identity of %s (new part %d) cannot be read", m.User, i+1)
		}
		list[i] = identity.Member{Index: i + 1, User: m.User, Identity: id}
	}
	return list, nil
}

func reshareInvitation(m *wire.ReshareInvite) (Invitation, error) {
	from, err := committeeOf(m.From, false)
	if err != nil {
		return Invitation{}, fmt.Errorf("old committee: %w", err)
	}
	to, err := committeeOf(m.To, true)
	if err != nil {
		return Invitation{}, fmt.Errorf("new committee: %w", err)
	}
	if len(m.Places) == 0 {
		return Invitation{}, errors.New("the invitation gives this party no place")
	}
	return Invitation{
		Kind: request.KindReshare, SessionID: m.SessionID, KeyID: m.KeyID, Coordinator: m.Coordinator, Curve: pubkey.Curve(m.Curve),
		Threshold: m.To.Threshold, PartIndex: m.Places[0], Participants: to.Users(), Deadline: m.Deadline, AccountAddr: m.AccountAddr,
		SignedRequest: m.SignedRequest,
		Reshare: &Reshare{
			Epoch: m.Epoch, From: from, To: to, Places: slices.Sorted(slices.Values(m.Places)), PublicKey: m.PublicKey,
			Parent: m.Certificate, Origin: m.Origin,
		},
	}, nil
}

func committeeOf(c wire.Committee, identities bool) (Committee, error) {
	list := Committee{Epoch: c.Epoch, Threshold: c.Threshold}
	if err := identity.CheckThreshold(c.Threshold, len(c.Parties)); err != nil {
		return Committee{}, err
	}
	if c.TotalParts != len(c.Parties) {
		return Committee{}, errors.New("not all parties are listed")
	}
	for i, party := range c.Parties {
		if party.PartIndex != i+1 || party.UserID == "" || slices.Contains(list.Users(), party.UserID) {
			return Committee{}, errors.New("a part is missing, or a user is there twice")
		}
		m := Member{User: party.UserID}
		if identities {
			m.Identity = party.Identity
		}
		list.Members = append(list.Members, m)
	}
	return list, nil
}

// maxNumberLead is how far the number of an attempt may be above the greatest that is
// known here: nobody may use up the numbers of a key.
const maxNumberLead = 1000

// errMoved refuses to act under an epoch that a later one has followed.
type errMoved struct{ from, to int }

func (e *errMoved) Error() string {
	return fmt.Sprintf("the key has moved from epoch %d to %d", e.from, e.to)
}

// checkReshare compares an invitation to a reshare with what is known here, and returns
// it with the places that this party takes, and what a person must confirm.
func (p *participant) checkReshare(ctx context.Context, inv Invitation) (Invitation, error) {
	if p.cfg.Epochs == nil {
		return inv, errors.New("this participant's store keeps no epochs")
	}
	r := *inv.Reshare
	inv.Reshare = &r
	if err := checkKeyOf(inv); err != nil {
		return inv, err
	}
	members, err := r.members()
	if err != nil {
		return inv, err
	}
	if err := identity.CheckMembers(members, len(members)); err != nil {
		return inv, err
	}
	k, err := p.keyEpochs(ctx, inv.ref())
	if err != nil {
		return inv, err
	}
	if err := k.checkParent(r); err != nil {
		return inv, err
	}
	held, err := p.shareOf(ctx, inv.ref(), r.From.Epoch)
	if err != nil {
		return inv, err
	}
	if held != nil {
		if err := checkFrom(inv, *held); err != nil {
			return inv, err
		}
	}
	if err := p.takePlaces(&r, members, held); err != nil {
		return inv, err
	}
	inv.PartIndex = r.Places[0]
	return inv, p.compare(&r, members, held)
}

// checkKeyOf checks that address, public key and curve belong together.
func checkKeyOf(inv Invitation) error {
	curve, err := pubkey.ParseCurve(string(inv.Curve))
	if err != nil {
		return err
	}
	pub, err := curve.ParseKey(inv.Reshare.PublicKey)
	if err != nil {
		return err
	}
	if address, err := curve.Address(pub); err != nil || address != inv.AccountAddr {
		return errors.New("the account address is not that of the public key")
	}
	return nil
}

// checkParent compares the epoch that an invitation follows with those held here. Its
// number counts when an attempt begins: this party's answer may raise that.
func (k *keyEpochs) checkParent(r Reshare) error {
	switch current := k.current(); {
	case current > r.From.Epoch:
		return &errMoved{r.From.Epoch, current}
	case k.lineage != nil && current == r.From.Epoch && k.lineage.Head().Hash().String() != r.Parent:
		return errors.New("the request follows another certificate than the one held here")
	}
	if _, err := statement.ParseHash(r.Parent); err != nil {
		return fmt.Errorf("the key's epoch %d has no certificate: %w", r.From.Epoch, err)
	}
	return nil
}

// checkFrom compares the old committee of an invitation with this party's share.
func checkFrom(inv Invitation, held share.Public) error {
	r := inv.Reshare
	switch {
	case held.KeyID != inv.KeyID || held.AccountAddr != inv.AccountAddr || held.PublicKey != r.PublicKey || held.Curve != inv.Curve:
		return errors.New("the share here is of another key")
	case held.Threshold != r.From.Threshold || !slices.Equal(usersOf(held.Parties), r.From.Users()):
		return errors.New("the old committee is not that of the share here")
	}
	return nil
}

// takePlaces replaces the places of an invitation by those that this party takes: the
// new one, whose identity must be its own, and the old one if its share is here.
func (p *participant) takePlaces(r *Reshare, members []identity.Member, held *share.Public) error {
	user, own := p.link.User(), p.identity.Public()
	var mine, takes []int
	for i, m := range r.From.Members {
		if m.User != user {
			continue
		}
		mine = append(mine, i+1)
		if held != nil && held.PartIndex == i+1 && held.Parties[i].Identity == own {
			takes = append(takes, i+1)
		}
	}
	for i, m := range members {
		if m.User != user {
			continue
		}
		mine = append(mine, r.old()+i+1)
		if m.Identity != own {
			return fmt.Errorf("new part %d is for another identity of %s than this one: %s", i+1, user, m.Identity.Fingerprint())
		}
		takes = append(takes, r.old()+i+1)
	}
	switch {
	case !slices.Equal(mine, r.Places):
		return errors.New("the invitation gives this party places that are not its own")
	case len(takes) == 0:
		return errors.New("there is no share of the key here, and no part of the new committee is for this party")
	}
	r.Places = takes
	return nil
}

// compare notes how the new committee differs from the old one, and from the identities
// known here. An old member never trusts an identity on first use in a reshare: else a
// captured server could put its own people into the committee.
func (p *participant) compare(r *Reshare, members []identity.Member, held *share.Public) error {
	for i := range r.To.Members {
		m, id := &r.To.Members[i], members[i].Identity
		m.Fingerprint = id.Fingerprint()
		same := false
		if at := slices.Index(r.From.Users(), m.User); at < 0 {
			m.Joins = true
		} else if held != nil {
			same = held.Parties[at].Identity == id
			m.Device = !same
		}
		if id == p.identity.Public() {
			continue
		}
		known, ok, err := p.known(m.User)
		if err != nil {
			return err
		}
		if ok && known.Fingerprint == m.Fingerprint {
			m.Pinned = known.Pinned
		} else if ok {
			m.Known = known.Fingerprint
		}
		if p.cfg.Trust.PinnedOnly && !m.Pinned && m.Known == "" && !same {
			return fmt.Errorf("the identity of %s, %s, is not among the pinned ones", m.User, m.Fingerprint)
		}
		if !m.Pinned && (m.Known != "" || held != nil && !same) {
			r.Unpinned = append(r.Unpinned, m.User)
		}
	}
	return nil
}

// unconfirmed returns why a reshare is declined where no person is asked, "" if it need
// not be.
func (inv Invitation) unconfirmed() string {
	if inv.Reshare == nil || len(inv.Reshare.Unpinned) == 0 {
		return ""
	}
	return fmt.Sprintf("nobody has confirmed the new identities of %s here: pin them, or let a person approve", strings.Join(inv.Reshare.Unpinned, ", "))
}

// ref names the key of an invitation.
func (inv Invitation) ref() keyRef { return keyRef{inv.KeyID, inv.AccountAddr} }

// pinnedSigner declines a reshare that no pinned coordinator has signed, whoever is
// asked: the request alone says who may enter the committee.
func pinnedSigner(inv Invitation) error {
	switch {
	case inv.Signer == nil:
		return errors.New("the request to reshare is not signed")
	case !inv.Signer.Pinned:
		return fmt.Errorf("the identity of %s %s, which a reshare needs", inv.Coordinator, trust.ReasonNotPinned)
	}
	return nil
}

// reshareResponse is the answer to an invitation to a reshare. It says which numbers were
// seen here, so that none is used twice, and brings a later certificate than the server's.
func (p *participant) reshareResponse(inv Invitation, ok bool, reason string) wire.Payload {
	m := &wire.ReshareResponse{KeyID: inv.KeyID, SessionID: inv.SessionID, Response: &ok, Reason: reason}
	if inv.Reshare == nil { // repeated, of an invitation of which only that it was declined is known
		return m
	}
	if ok {
		m.Places = inv.Reshare.Places
	}
	k, err := p.keyEpochs(context.Background(), inv.ref())
	if err != nil {
		return m
	}
	m.Highest = max(k.numbers.Highest, k.current())
	if k.current() > inv.Reshare.From.Epoch {
		m.Certificate = k.certificate()
	}
	return m
}
