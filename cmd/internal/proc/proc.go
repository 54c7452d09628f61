// Package proc is what Conclave's programs do about the process that they run in:
// [HideMemory] keeps its memory out of core dumps.
package proc
