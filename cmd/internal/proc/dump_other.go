//go:build !linux

package proc

// HideMemory keeps this process's memory out of core dumps, as far as the system
// supports it.
func HideMemory() error { return noCore() }
