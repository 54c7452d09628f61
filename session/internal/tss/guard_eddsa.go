package tss

import (
	eddsakeygen "github.com/bnb-chain/tss-lib/v2/eddsa/keygen"
	eddsasigning "github.com/bnb-chain/tss-lib/v2/eddsa/signing"
)

type (
	eddsaKG1  = *eddsakeygen.KGRound1Message
	eddsaKG2S = *eddsakeygen.KGRound2Message1
	eddsaKG2  = *eddsakeygen.KGRound2Message2
	eddsaS1   = *eddsasigning.SignRound1Message
	eddsaS2   = *eddsasigning.SignRound2Message
	eddsaS3   = *eddsasigning.SignRound3Message
)

var eddsaKeygen2ShareRules = []rule{
	numbers("share", sizeScalar),
	must("share must be between 1 and the group order", func(g *Guard, _ int, m eddsaKG2S) bool { return g.isScalar(m.Share) }),
}

var eddsaKeygen2Rules = []rule{
	polynomial("de_commitment"),
	must("de_commitment must open the commitment of round 1", func(g *Guard, from int, m eddsaKG2) bool {
		return opens(earlier[eddsaKG1](g, from).GetCommitment(), m.DeCommitment)
	}),
	must("de_commitment must hold points of the group", func(g *Guard, _ int, m eddsaKG2) bool {
		return len(m.DeCommitment) > 0 && g.arePoints(m.DeCommitment[1:])
	}),
	numbers("proof_alpha_x", sizeScalar),
	numbers("proof_alpha_y", sizeScalar),
	must("proof_alpha must be a point of the group", func(g *Guard, _ int, m eddsaKG2) bool { return g.IsPoint(m.ProofAlphaX, m.ProofAlphaY) }),
	numbers("proof_t", sizeScalar),
	must("proof_t must be between 1 and the group order", func(g *Guard, _ int, m eddsaKG2) bool { return g.isScalar(m.ProofT) }),
}

// tss-lib multiplies the point before it checks that there is one, and names no
// culprit for a commitment that is not opened.
var eddsaSign2Rules = []rule{
	numbers("de_commitment", same(3, sizeScalar)...),
	must("de_commitment must open the commitment of round 1", func(g *Guard, from int, m eddsaS2) bool {
		return opens(earlier[eddsaS1](g, from).GetCommitment(), m.DeCommitment)
	}),
	must("de_commitment must hold a point of the group", func(g *Guard, _ int, m eddsaS2) bool {
		return len(m.DeCommitment) > 0 && g.arePoints(m.DeCommitment[1:])
	}),
	numbers("proof_alpha_x", sizeScalar),
	numbers("proof_alpha_y", sizeScalar),
	must("proof_alpha must be a point of the group", func(g *Guard, _ int, m eddsaS2) bool { return g.IsPoint(m.ProofAlphaX, m.ProofAlphaY) }),
	numbers("proof_t", sizeScalar),
	must("proof_t must be between 1 and the group order", func(g *Guard, _ int, m eddsaS2) bool { return g.isScalar(m.ProofT) }),
}

var eddsaSign3Rules = []rule{
	numbers("s", sizeScalar),
	must("s must be between 1 and the group order", func(g *Guard, _ int, m eddsaS3) bool { return g.isScalar(m.S) }),
}
