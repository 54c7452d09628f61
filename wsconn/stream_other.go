//go:build !unix

package wsconn

// readAhead is for systems whose reads can be made without waiting.
type readAhead struct{}

func newReadAhead(any) *readAhead { return nil }

// Read implements io.Reader. It is never called.
func (*readAhead) Read([]byte) (int, error) { panic("unreachable") }
