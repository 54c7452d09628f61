// Package tss is the only package that imports tss-lib: its protocols for packages
// party, share and preparams, with the checks that protect the library from a malicious
// party.
//
// Start here: [NewCommittee] maps our part indexes to the library's, [Keygen] and
// [Sign] build a party's side of a protocol, and [Guard] checks each message before the
// library sees it. [Secret] is the result of a key generation and the input of a
// signing.
//
// The package has no goroutines of its own. The import of tss-lib starts one for
// its logger that ends with the process.
package tss
