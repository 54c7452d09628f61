//go:build !race

package sample

// PerCore is how many tests [Idling] lets run for each core.
const PerCore = 4
