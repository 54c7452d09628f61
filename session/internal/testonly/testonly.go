// Package testonly says whether test-only shortcuts may be used: published
// pre-parameters, and passphrases with minimal scrypt cost. Packages that only tests
// import call Allow when they are initialized. Programs that import none of them, such
// as all shipped ones, never allow it.
package testonly

import "sync/atomic"

var allowed atomic.Bool

// Allow permits them for the life of the process.
func Allow() { allowed.Store(true) }

// Allowed reports whether Allow was called. Safe for concurrent use.
func Allowed() bool { return allowed.Load() }
