package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/conclave-mpc/conclave/session/statement"
)

// conviction is the result of verify --evidence.
type conviction struct {
	Convicted   bool   `json:"convicted"`
	User        string `json:"user_id"`
	PartIndex   int    `json:"part_index"`
	Fingerprint string `json:"fingerprint"`
	// Trust is "pinned" or "first use" if the identity is the known one, "other" if
	// another is known, and "unknown".
	Trust     string `json:"trust"`
	Protocol  string `json:"protocol"`
	SessionID string `json:"session_id"`
	Attempt   int    `json:"attempt"`
	KeyID     string `json:"key_id"`
	Round     string `json:"round"`
	First     string `json:"first"` // SHA-256 of the messages, hex
	Second    string `json:"second"`
}

// maxEvidenceFile is more than the largest evidence.
const maxEvidenceFile = 16 << 20

func (c *cli) verifyEvidence(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read evidence: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEvidenceFile))
	if err != nil {
		return fmt.Errorf("read evidence: %w", err)
	}
	e, err := statement.ParseEvidence(text)
	if err != nil {
		return fmt.Errorf("the evidence proves nothing: %w", err)
	}
	culprit, err := e.Verify()
	if err != nil {
		return fmt.Errorf("the evidence proves nothing: %w", err)
	}
	v := conviction{
		Convicted: true, User: culprit.User, PartIndex: culprit.Index, Fingerprint: culprit.Identity.Fingerprint(),
		Protocol: e.Protocol, SessionID: e.SessionID, Attempt: e.Attempt, KeyID: e.KeyID, Round: e.Round,
		First: hex.EncodeToString(e.First.Hash), Second: hex.EncodeToString(e.Second.Hash),
	}
	if v.Trust, err = c.knownAs(v.User, v.Fingerprint); err != nil {
		return err
	}
	return c.print(v, [2]string{"convicts", fmt.Sprintf("%s (part %d)", v.User, v.PartIndex)},
		[2]string{"identity", v.Fingerprint}, [2]string{"trust", v.Trust},
		[2]string{"of", fmt.Sprintf("signing two different messages %s", v.Round)},
		[2]string{"in", fmt.Sprintf("%s %s, attempt %d, of key %s", v.Protocol, v.SessionID, v.Attempt, v.KeyID)},
		[2]string{"first", v.First}, [2]string{"second", v.Second})
}

// knownAs says how this home knows an identity, and warns if it does not.
func (c *cli) knownAs(user, fingerprint string) (string, error) {
	knows, err := c.knows()
	if err != nil {
		return "", err
	}
	known, ok, err := knows(user)
	if err != nil {
		return "", err
	}
	switch {
	case !ok:
		c.console.say("warning: no identity of %s is known here; compare it with the one that the owner shows you", clean(user))
		return "unknown", nil
	case known.Fingerprint != fingerprint:
		c.console.say("warning: %s is known here with another identity, %s (%s): this convicts somebody else", clean(user), known.Fingerprint, trustOf(known.Pinned))
		return "other", nil
	case !known.Pinned:
		c.console.say("warning: the identity of %s was trusted on first use and is not pinned", clean(user))
	}
	return trustOf(known.Pinned), nil
}
