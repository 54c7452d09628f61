package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// The lanes of a session: its coordinator, the server, and part i at
// laneServer + i.
const (
	laneCoordinator = iota
	laneServer
)

// step is one event of a session: a message of the protocol from one lane to
// another, or, if both are the server's, just a note.
type step struct {
	from, to int
	what     string // type of the message
	note     string
	style    style
}

// steps returns the events of a session between two of its states. For the first
// state, before is the zero value. Events in quick succession are in the order of
// the protocol, which may not be their order in time.
func steps(before, now rest.SessionInfo) []step {
	var list []step
	if before.SessionID == "" {
		list = append(list, step{laneCoordinator, laneServer, now.Kind + "_request", "", ""})
	}
	was := make(map[int]rest.PartInfo)
	for _, p := range before.Responses {
		was[p.PartIndex] = p
	}
	for _, p := range now.Responses {
		if p.Invited && !was[p.PartIndex].Invited {
			list = append(list, step{laneServer, laneServer + p.PartIndex, now.Kind + "_invite", "", ""})
		}
	}
	for _, p := range now.Responses {
		if p.Response != "" && was[p.PartIndex].Response == "" {
			list = append(list, step{laneServer + p.PartIndex, laneServer, now.Kind + "_response", p.Response, answerStyle(p.Response)})
		}
	}
	for _, i := range now.Culprits {
		if !slices.Contains(before.Culprits, i) {
			list = append(list, step{laneServer, laneServer, "", userOf(now, i) + " is to blame", red})
		}
	}
	if now.Attempt > before.Attempt {
		note := ""
		if now.Attempt > 1 {
			note = fmt.Sprintf("attempt %d", now.Attempt)
		}
		for _, i := range now.Signers {
			list = append(list, step{laneServer, laneServer + i, now.Kind + "_params", note, ""})
		}
	}
	for _, p := range now.Responses {
		if p.Result != "" && was[p.PartIndex].Result == "" {
			list = append(list, resultStep(now.Kind, p))
		}
	}
	if s, ended := outcome(now); ended {
		if _, told := outcome(before); !told {
			list = append(list, step{laneServer, laneCoordinator, finalMessage(now.Kind), string(s), styleOf(s)})
		}
	}
	return list
}

func answerStyle(response string) style {
	if response == "accepted" {
		return green
	}
	return red
}

func resultStep(kind string, p rest.PartInfo) step {
	if kind == string(request.KindKeygen) {
		return step{laneServer + p.PartIndex, laneServer, "keygen_complete", p.Result, ""}
	}
	s := step{laneServer + p.PartIndex, laneServer, "sign_result", p.Result, green}
	if p.Result != "verified" {
		s.style = red
	}
	return s
}

func finalMessage(kind string) string {
	if kind == string(request.KindKeygen) {
		return "keygen_confirm"
	}
	return "sign_complete"
}

// outcome is a session's status, if it has ended.
func outcome(s rest.SessionInfo) (wire.Status, bool) {
	switch s.Phase {
	case "", "inviting", "running":
		return "", false
	case "completed":
		return wire.StatusSuccess, true
	}
	return wire.Status(s.Phase), true
}

// userOf names a part.
func userOf(s rest.SessionInfo, part int) string {
	if part >= 1 && part <= len(s.Participants) {
		return s.Participants[part-1]
	}
	return fmt.Sprintf("part %d", part)
}

// pending says in a line what a session waits for.
func pending(s rest.SessionInfo) string {
	var accepted, silent []string
	for _, p := range s.Responses {
		switch {
		case slices.Contains(s.Culprits, p.PartIndex):
		case p.Response == "accepted":
			accepted = append(accepted, p.UserID)
		case p.Invited && p.Response == "":
			silent = append(silent, p.UserID)
		}
	}
	switch {
	case s.Phase == "running" && len(s.Signers) > 0:
		var who, missing []string
		for _, i := range s.Signers {
			who = append(who, userOf(s, i))
			if !reported(s, i) {
				missing = append(missing, userOf(s, i))
			}
		}
		text := fmt.Sprintf("running · attempt %d of %s", s.Attempt, strings.Join(who, ", "))
		if len(missing) < len(who) {
			text += " · waiting for " + strings.Join(missing, ", ")
		}
		return text
	case len(silent) > 0:
		need := s.Threshold
		if s.Kind == string(request.KindKeygen) {
			need = len(s.Participants)
		}
		return fmt.Sprintf("%d of %d accepted · waiting for %s", len(accepted), need, strings.Join(silent, ", "))
	}
	return s.Phase
}

func reported(s rest.SessionInfo, part int) bool {
	return slices.ContainsFunc(s.Responses, func(p rest.PartInfo) bool { return p.PartIndex == part && p.Result != "" })
}

// resultColumns is how much of long data a result shows from its beginning and its
// end; --json has all of it.
const resultColumns = 200

// result returns a session's outcome as rows.
func result(s rest.SessionInfo) [][2]string {
	status, _ := outcome(s)
	took := ""
	if !s.EndedAt.IsZero() && !s.CreatedAt.IsZero() {
		took = " after " + s.EndedAt.Sub(s.CreatedAt).Round(time.Millisecond).String()
	}
	rows := [][2]string{{"outcome", string(status) + took}, {"reason", s.Reason}}
	var blamed []string
	for _, i := range s.Culprits {
		blamed = append(blamed, fmt.Sprintf("%s (part %d)", userOf(s, i), i))
	}
	rows = append(rows, [2]string{"to blame", strings.Join(blamed, ", ")}, [2]string{"key", s.KeyID})
	if s.Kind == string(request.KindSign) {
		rows = append(rows, [2]string{"data", dataInLine(s.Data, resultColumns)}, [2]string{"digest", ownDigest(s.Data, s.Digest)},
			[2]string{"signature", s.Signature})
	}
	return append(rows, [2]string{"address", s.AccountAddr}, [2]string{"verified", verifiedHere(s)})
}

// verifiedHere verifies the signature of a session against its address; the other
// fields are the servers' claim.
func verifiedHere(s rest.SessionInfo) string {
	if s.Kind != string(request.KindSign) || s.Signature == "" {
		return ""
	}
	curve, err := pubkey.ParseCurve(s.Curve)
	if err != nil {
		return "no: " + err.Error()
	}
	digest, _, err := pubkey.Digest(curve, s.Data, s.Hash)
	if err != nil {
		return "no: " + err.Error()
	}
	sig, err := pubkey.Decode(s.Signature)
	if err == nil {
		_, _, err = curve.CompleteFor(s.AccountAddr, digest, sig)
	}
	if err != nil {
		return "no: " + err.Error()
	}
	return "here, by data and address"
}
