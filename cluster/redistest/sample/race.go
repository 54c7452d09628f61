//go:build race

package sample

// PerCore is the number of concurrent tests per core with [Idling].
const PerCore = 2
