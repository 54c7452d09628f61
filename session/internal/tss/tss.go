// Package tss is all that knows tss-lib: its protocols as packages party, share and
// preparams use them, with what stands between the library and a malicious party.
// No other package may import the library.
//
// Start here: [NewCommittee] maps our part indexes to the library's, [Keygen] and
// [Sign] build a party's side of a protocol, and [Guard] checks each message before
// the library sees it. [Secret] is what a key generation leaves and a signing needs.
//
// The package has no goroutines of its own. The import of tss-lib starts one for
// its logger that ends with the process.
package tss
