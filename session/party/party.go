// Package party is one party's side of key generation and signing: the engine that
// runs a protocol for one key on one curve, and the sealing and signing of
// everything that passes between parties. It is the half of a session that the
// servers cannot see into.
//
// Start here: [NewKeygen] and [NewSign] make a [Run]; [Run.Start], [Run.Out] and
// [Run.Accept] carry it through; [Run.Share] or [Run.Signature] is what it makes.
//
// It does no networking and stores nothing. Whoever uses it carries the messages
// of [Run.Out] to the other parties' [Run.Accept] by any route, trusted or not; sees
// to it that no session id and attempt is used twice; decides whose identities to
// believe; and keeps the [identity.Identity], the sealed [share.Share] and unused
// [preparams.Set].
//
// # A run
//
// [NewKeygen] and [NewSign] make a [Run] for a [Binding]: the session, the key, and
// who takes part with which identity. Both curves and both kinds go the same way:
//
//	out:  tss-lib -> content -> sealed if for one party -> signed -> Out
//	in:   Accept -> signature -> place still free? -> opened -> decoded -> queue
//	      engine: release -> tss-lib
//
// The binding is part of every signature and every seal, so a message is worth
// nothing in another run, round or direction. Which rounds are broadcast is a
// table here and not said on the wire; who sent a message is who signed it. The
// first message of a sender and round counts. [ErrNotAuthentic] explains what is
// refused without blame, and [Error] what is somebody's fault.
//
// A message is checked against what tss-lib itself checks, and every one passes
// Run.release before tss-lib sees it: see [tss.Guard]. What tss-lib v2.0.2 fails to check can
// still make its own goroutines panic, which nobody can recover from.
//
// # Numbers
//
// A part index is 1-based and the key's own; tss-lib's index is the place in the
// order of its party keys, which are derived from key id, user and part index.
// [tss.Committee] maps between them. Threshold counts signers, here and in
// everything exported; tss-lib's is one less, and [tss.Committee.Params] is where.
//
// # Goroutines and locks
//
// A Run has one goroutine from Start to its end, and in it tss-lib runs; Accept
// only checks and queues. The run's mutex guards its state and is never held
// over tss-lib, cryptography or a channel. The channel behind Out holds all that a
// run can send, so nothing waits for its reader. The import of tss-lib starts a
// goroutine for its logger that ends with the process.
package party
