package party

import (
	"slices"

	"github.com/conclave-mpc/conclave/session/internal/tss"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
)

// round is one type of round message, with tss-lib's content and the sizes of its
// messages.
type round struct {
	statement.Round
	tss.Content // New is nil in an echo
}

// roundsOf returns the message types of a protocol, in order of sending.
func roundsOf(k kind, c pubkey.Curve) []round { return withContents(statement.Rounds(string(k), c), 0) }

// roundsAmong returns the message types of a run, echoes included.
func roundsAmong(run *statement.Run) []round { return withContents(run.Rounds(), len(run.Parties)) }

func withContents(list []statement.Round, parties int) []round {
	rounds := make([]round, len(list))
	for i, rd := range list {
		rounds[i] = round{Round: rd, Content: tss.Contents[rd.Name]}
		if rd.Echo() {
			for _, other := range list {
				if other.Number == rd.Number && !other.P2P && !other.Echo() {
					rounds[i].Max += (parties - 1) * echoEntry
				}
			}
		}
	}
	return rounds
}

func roundByName(rounds []round, name string) *round {
	if i := slices.IndexFunc(rounds, func(rd round) bool { return rd.Name == name }); i >= 0 {
		return &rounds[i]
	}
	return nil
}
