// Package tss wraps tss-lib for packages party, share and preparams, with checks that
// protect the library from a malicious party. No other package may import the library.
//
// Start here: [NewCommittee] maps our part indexes to the library's, [Keygen] and
// [Sign] build a party's side of a protocol, and [Guard] checks each message before the
// library sees it. [Secret] is the result of a key generation, and signs.
//
// The package has no goroutines of its own. The import of tss-lib starts one for
// its logger that ends with the process.
package tss
