package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// A reshare is shown as the difference of two committees: who joins (+), who leaves (-),
// whose device is another one, and how the threshold changes. What the approver must
// confirm, an identity that is not pinned, is shown with its fingerprint and never left
// out.

// changesOf is the difference in a line, for a log.
func changesOf(r *participant.Reshare) string {
	var list []string
	if r.To.Threshold != r.From.Threshold || len(r.To.Members) != len(r.From.Members) {
		list = append(list, fmt.Sprintf("%d of %d -> %d of %d", r.From.Threshold, len(r.From.Members), r.To.Threshold, len(r.To.Members)))
	}
	for _, m := range r.To.Members {
		switch {
		case m.Joins:
			list = append(list, "+ "+m.User)
		case m.Device:
			list = append(list, "new device of "+m.User)
		}
	}
	for _, user := range leaving(r) {
		list = append(list, "- "+user)
	}
	if len(list) == 0 {
		return "the same committee"
	}
	return strings.Join(list, ", ")
}

// leaving returns the users of the old committee who are not in the new one.
func leaving(r *participant.Reshare) []string {
	return slices.DeleteFunc(r.From.Users(), func(user string) bool { return slices.Contains(r.To.Users(), user) })
}

// reshare shows both committees of a reshare.
func (r *rows) reshare(inv participant.Invitation, whole bool) {
	x := inv.Reshare
	threshold := fmt.Sprintf("%d of %d must sign, as before", x.To.Threshold, len(x.To.Members))
	if x.To.Threshold != x.From.Threshold || len(x.To.Members) != len(x.From.Members) {
		threshold = fmt.Sprintf("%d of %d must sign, not %d of %d", x.To.Threshold, len(x.To.Members), x.From.Threshold, len(x.From.Members))
	}
	r.row("threshold", threshold)
	var stay []string
	for _, m := range x.To.Members {
		if !m.Joins && !m.Device {
			stay = append(stay, r.shown(m.User))
		}
	}
	r.names("stay", stay, whole)
	for _, m := range x.To.Members {
		if m.Joins || m.Device || m.Known != "" {
			r.changed(m, slices.Contains(x.Unpinned, m.User))
		}
	}
	var gone []string
	for _, user := range leaving(x) {
		gone = append(gone, r.shown(user))
	}
	r.names("- leave", gone, whole)
	if x.Origin == "imported" {
		r.lines("origin", wrapped("IMPORTED: somebody has known this key", r.width), red)
	}
	r.row("epoch", fmt.Sprintf("follows %d", x.From.Epoch))
}

// changed shows a member of the new committee who was not in the old one by this identity.
func (r *rows) changed(m participant.Member, unpinned bool) {
	name, text := "+ joins", r.shown(wire.DescribeName(m.User))
	if m.Device || m.Known != "" && !m.Joins {
		name, text = "NEW DEVICE", "of "+text
	}
	r.row(name, elide(text, len(m.User), r.width))
	state := ", pinned"
	if !m.Pinned {
		state = ""
	}
	r.row("", m.Fingerprint+state)
	if m.Known != "" {
		r.lines("", wrapped("known here as "+m.Known, r.width), red)
	}
	if unpinned {
		r.lines("", wrapped("NOT PINNED: compare it with its owner before you agree", r.width), red)
	}
}

// names lists users, if there are any.
func (r *rows) names(name string, users []string, whole bool) {
	switch {
	case len(users) == 0:
	case whole:
		r.row(name, strings.Join(users, ", "))
	default:
		r.lines(name, listed(users, r.width, 2), "")
	}
}
