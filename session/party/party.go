// Package party is one party's side of key generation, signing and reshare: the engine
// that runs a protocol for one key on one curve, and the sealing and signing of all
// messages between parties. The servers cannot see into this part of a session.
//
// Start here: [NewKeygen], [NewSign] and [NewReshare] make a [Run]; [Run.Start],
// [Run.Out] and [Run.Accept] drive it; [Run.Share] or [Run.Signature] is its result.
// [NewImport] is a reshare's side that has a whole private key.
//
// It does no networking and stores nothing. The caller carries the messages of
// [Run.Out] to the other parties' [Run.Accept] by any route, trusted or not; ensures
// that no session id and attempt is used twice; decides which identities to trust; and
// stores the [identity.Identity], the sealed [share.Share] and unused [preparams.Set].
//
// # A run
//
// A [Run] is for a [Binding], or a [ReshareBinding]: the session, the key, and the
// parties with their identities. Both curves and all kinds work the same way:
//
//	out:  tss-lib -> content -> sealed if for one party -> signed -> Out
//	in:   Accept -> signature -> place still free? -> opened -> decoded -> queue
//	      engine: release -> tss-lib
//
// The binding is part of every signature and every seal, so a message is useless in
// another run, round or direction. A table here, not the wire, says which rounds are
// broadcast; the signature identifies the sender. The first message of a sender and
// round counts. [ErrNotAuthentic] explains refusals without blame, and [Error] those
// with blame.
//
// A guard makes the checks that tss-lib omits, and every message passes Run.release
// before tss-lib sees it: see [tss.Guard]. Gaps that remain in tss-lib v2.0.2 can still
// make its own goroutines panic, which cannot be recovered.
//
// # A reshare
//
// The old committee's quorum shares its shares out to the new committee, in four rounds:
// commitments from the old to the new members; the new ones' moduli with proofs, to each
// other; shares and openings from the old; proofs and acknowledgements from the new.
// Every party is of one committee. A user in both has a run for each of its two places,
// with different party keys, since these include the epoch.
//
// The new members check each old member's contribution against its old public point, and
// echo each other what the old ones broadcast. tss-lib overwrites the old share, at a time
// when not all may have finished, and so it gets a copy: nothing here ends the life of an
// old share. That is for whoever has verified the new epoch's certificate.
//
// # Numbers
//
// A part index is 1-based and the key's own; tss-lib's index is the position in the
// order of its party keys, which are derived from key id, epoch, user and part index.
// In a reshare the parties of both committees have one common numbering: see
// [statement.Run]. [tss.Committee] and [tss.Places] map between them. Threshold counts
// signers, here and in everything exported; tss-lib's is one less, converted in
// [tss.Committee.Params] and its twin for a reshare.
//
// # Goroutines and locks
//
// A Run has one goroutine from Start to its end, in which tss-lib runs; Accept only
// checks and queues. The run's mutex guards its state and is never held during tss-lib,
// cryptography or a channel operation. The channel behind Out holds every message of a
// run, so nothing waits for its reader. The import of tss-lib starts a goroutine for
// its logger that ends with the process.
package party
