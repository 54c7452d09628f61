// Package proc protects the process that a program of Conclave runs in: [HideMemory]
// keeps its memory out of core dumps.
package proc
