// Package testonly says whether what is safe in tests only may be used: published
// pre-parameters, and passphrases that cost next to nothing to try. Packages that
// only tests import call Allow when they are initialized. A program that imports
// none of them, and so each one that is shipped, never gets it.
package testonly

import "sync/atomic"

var allowed atomic.Bool

// Allow allows it, for as long as the process lives.
func Allow() { allowed.Store(true) }

// Allowed reports whether Allow was called. Safe for concurrent use.
func Allowed() bool { return allowed.Load() }
