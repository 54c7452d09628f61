// Package policy decides by rules whether a participant takes part, without asking a
// person.
//
// Start here: [Parse] reads a policy, [Policy.Decide] decides about one request.
// Participants use it through ByPolicy of package wsconn/client/participant, which also
// refuses requests without a pinned coordinator's signature: this package trusts the
// request that it is given. It uses no server, reads no file and imports no client; a
// [RateLog] counts what its rules have allowed.
package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	policyVersion  = 1
	maxPolicyBytes = 1 << 20
	maxPolicyRules = 1000
	wildcard       = "*"
)

// The kinds of request, as in [statement.Request].
const (
	keygen  = statement.Keygen
	sign    = statement.Sign
	reshare = statement.Reshare
)

// Policy decides about requests by rules; without a matching rule it declines. JSON form:
//
//	{"version": 1, "rules": [{
//	    "name": "payroll", "coordinators": ["alice"], "kinds": ["sign"], "keys": ["treasury"],
//	    "ethereum": {"chain_ids": [1], "to": ["0x…"], "max_value_wei": "1000000000000000000", "max_fee_wei": "10000000000000000"},
//	    "rate": {"count": 10, "per": "24h"}
//	}]}
//
// A rule must have name, coordinators, kinds and keys; one for keygens or reshares also
// participants, the only permitted members of the new committee; one for reshares also
// min_threshold, the lowest permitted threshold of that; one for signings the permitted
// data: "text", a list of regular expressions of which one must match all of the data;
// "ethereum", see [EthereumRule]; or "any_data": true. With text and any_data it lists
// the "hashes" too. "*" stands for any key or participant; a coordinator must be named.
// An unknown field is an error, and so is one that does not apply to its rule.
type Policy struct {
	rules []rule
	rates *RateLog
}

type policyFile struct {
	Version int    `json:"version"`
	Rules   []rule `json:"rules"`
}

type rule struct {
	Name         string        `json:"name"`
	Coordinators []string      `json:"coordinators"`
	Kinds        []string      `json:"kinds"`
	Keys         []string      `json:"keys"`
	Participants []string      `json:"participants"`
	Hashes       []pubkey.Hash `json:"hashes"`
	Text         []pattern     `json:"text"`
	Ethereum     *EthereumRule `json:"ethereum"`
	AnyData      bool          `json:"any_data"`
	MinThreshold int           `json:"min_threshold"`
	Rate         *rate         `json:"rate"`
}

// rate bounds how often a rule allows something.
type rate struct {
	Count int      `json:"count"`
	Per   duration `json:"per"`
}

// duration has Go's text form: 24h, 10m.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = duration(v)
	return err
}

// pattern is a regular expression that must match from the first byte to the last,
// regardless of its own anchors.
type pattern struct{ *regexp.Regexp }

func (p *pattern) UnmarshalText(text []byte) error {
	// It must be valid by itself: an extra bracket must not close the group around it.
	if _, err := regexp.Compile(string(text)); err != nil {
		return err
	}
	re, err := regexp.Compile(`\A(?:` + string(text) + `)\z`)
	p.Regexp = re
	return err
}

// Parse reads a policy. Rates counts what it has allowed; nil counts in memory only.
func Parse(text []byte, rates *RateLog) (*Policy, error) {
	if len(text) > maxPolicyBytes {
		return nil, errors.New("policy: too large")
	}
	if err := unambiguous(json.NewDecoder(bytes.NewReader(text)), maxPolicyDepth); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	var file policyFile
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("policy: something follows the JSON object")
	}
	if file.Version != policyVersion {
		return nil, fmt.Errorf("policy: version must be %d", policyVersion)
	}
	if len(file.Rules) > maxPolicyRules {
		return nil, fmt.Errorf("policy: more than %d rules", maxPolicyRules)
	}
	seen := map[string]bool{}
	for i, r := range file.Rules {
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("policy: rule %d (%q): %w", i+1, r.Name, err)
		}
		if seen[r.Name] {
			return nil, fmt.Errorf("policy: two rules are named %q", r.Name)
		}
		seen[r.Name] = true
	}
	if rates == nil {
		rates = new(RateLog)
	}
	return &Policy{rules: file.Rules, rates: rates}, nil
}

// unambiguous refuses input that encoding/json would accept in its own way: a duplicate
// field, of which one would win; field names in another case, which it treats as equal;
// and null, which it accepts for anything.
func unambiguous(d *json.Decoder, depth int) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	opened, ok := t.(json.Delim)
	switch {
	case t == nil:
		return errors.New("null means nothing here")
	case !ok:
		return nil
	case depth == 0:
		return errors.New("too deep")
	}
	seen := map[string]bool{}
	for d.More() {
		if opened == '{' {
			t, err := d.Token()
			if err != nil {
				return err
			}
			name, _ := t.(string)
			if seen[name] || name != strings.ToLower(name) {
				return fmt.Errorf("field %q is there twice, or not in lower case", name)
			}
			seen[name] = true
		}
		if err := unambiguous(d, depth-1); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

const maxPolicyDepth = 8

// check refuses a rule with missing fields or fields that do not apply.
func (r *rule) check() error {
	keygens, signs, reshares := slices.Contains(r.Kinds, keygen), slices.Contains(r.Kinds, sign), slices.Contains(r.Kinds, reshare)
	contents := 0
	for _, given := range []bool{len(r.Text) > 0, r.Ethereum != nil, r.AnyData} {
		if given {
			contents++
		}
	}
	switch {
	case r.Name == "" || len(r.Name) > wire.MaxIDBytes:
		return errors.New("a rule must have a name")
	case len(r.Coordinators) == 0 || len(r.Kinds) == 0 || len(r.Keys) == 0:
		return errors.New("coordinators, kinds and keys must be listed")
	case slices.ContainsFunc(r.Kinds, func(k string) bool { return k != keygen && k != sign && k != reshare }):
		return errors.New("kinds are keygen, sign and reshare")
	case (keygens || reshares) && len(r.Participants) == 0:
		return errors.New("a rule for keygens or reshares lists the participants")
	case reshares && r.MinThreshold < 2:
		return errors.New("a rule for reshares has a min_threshold of 2 or more")
	case !reshares && r.MinThreshold != 0:
		return errors.New("min_threshold is for reshares")
	case signs && contents != 1:
		return errors.New("a rule for signings has one of text, ethereum and any_data")
	case !signs && (contents != 0 || len(r.Hashes) > 0):
		return errors.New("text, ethereum, any_data and hashes are for signings")
	case signs && r.Ethereum == nil && len(r.Hashes) == 0:
		return errors.New("a rule with text or any_data lists the hashes")
	case r.Ethereum != nil && len(r.Hashes) > 0:
		return errors.New("hashes mean nothing with ethereum, whose hash is keccak256")
	case r.Rate != nil && (r.Rate.Count < 1 || r.Rate.Count > maxRate || r.Rate.Per <= 0):
		return fmt.Errorf("rate must have a count from 1 to %d, and per a duration", maxRate)
	}
	if err := r.checkNames(); err != nil {
		return err
	}
	if r.Ethereum != nil {
		return r.Ethereum.check()
	}
	return nil
}

func (r *rule) checkNames() error {
	for _, user := range r.Coordinators {
		if !wire.StoredID(user) {
			return fmt.Errorf("coordinator %q is not a user id", user)
		}
	}
	for _, id := range append(slices.Clone(r.Keys), r.Participants...) {
		if id != wildcard && !wire.StoredID(id) {
			return fmt.Errorf("%q is not an id", id)
		}
	}
	for _, h := range r.Hashes {
		switch h {
		case pubkey.HashNone, pubkey.HashKeccak256, pubkey.HashSHA256, pubkey.HashSHA256d, pubkey.HashEIP191:
		default:
			return pubkey.ErrHash
		}
	}
	return nil
}

// Decide returns whether a rule allows the request, and if not, why. Rates count by
// session, the one that was made for the request: the same session counts once. The
// caller must know that the coordinator has signed the request. An error says that the
// allowance could not be counted. It is safe for concurrent use.
func (p *Policy) Decide(session string, request statement.Request) (ok bool, reason string, err error) {
	var reasons []string
	for _, r := range p.rules {
		mine, why := r.allows(request)
		if !mine {
			continue
		}
		if why == "" && r.Rate != nil {
			ok, err := p.rates.Take(r.Name, session, r.Rate.Count, time.Duration(r.Rate.Per), time.Now())
			if err != nil {
				return false, "", fmt.Errorf("count what rule %s allows: %w", r.Name, err)
			}
			if !ok {
				why = fmt.Sprintf("%d in %s have been allowed", r.Rate.Count, time.Duration(r.Rate.Per))
			}
		}
		if why == "" {
			return true, "", nil
		}
		reasons = append(reasons, r.Name+": "+why)
	}
	if len(reasons) == 0 {
		return false, "no rule of the policy matches", nil
	}
	return false, "the policy does not allow it: " + strings.Join(reasons, "; "), nil
}

// allows reports whether a rule applies to a request, and why it does not allow it.
func (r *rule) allows(q statement.Request) (mine bool, why string) {
	if !slices.Contains(r.Coordinators, q.Coordinator) || !slices.Contains(r.Kinds, q.Kind) || !listed(r.Keys, q.KeyID) {
		return false, ""
	}
	users := q.Participants
	for _, m := range q.Members {
		users = append(slices.Clip(users), m.User)
	}
	for _, user := range users {
		if len(r.Participants) > 0 && !listed(r.Participants, user) {
			return true, user + " is not one of the participants"
		}
	}
	switch {
	case q.Kind == keygen:
		return true, ""
	case q.Kind == reshare && q.Threshold < r.MinThreshold:
		return true, fmt.Sprintf("threshold %d is below %d", q.Threshold, r.MinThreshold)
	case q.Kind == reshare:
		return true, ""
	case r.Ethereum != nil:
		return true, r.Ethereum.refuses(q)
	case !slices.Contains(r.Hashes, pubkey.Hash(q.Hash)):
		return true, "hash " + q.Hash + " is not one of the hashes"
	case r.AnyData:
		return true, ""
	case strings.HasPrefix(q.Data, "0x"): // hex, not text, see pubkey.Digest
		return true, "the data is not text"
	case !slices.ContainsFunc(r.Text, func(p pattern) bool { return p.MatchString(q.Data) }):
		return true, "the text matches no pattern"
	}
	return true, ""
}

func listed(list []string, id string) bool {
	return slices.Contains(list, id) || slices.Contains(list, wildcard)
}
