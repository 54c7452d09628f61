//go:build !linux

package proc

// HideMemory keeps this process's memory out of core dumps, as far as the system
// lets it be asked.
func HideMemory() error { return noCore() }
