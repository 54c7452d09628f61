//go:build unix

package wsconn

import (
	"io"
	"os"
	"sync"
	"syscall"
)

// readAhead reads a connection into memory that is lent only once there is
// something to read, so that much can be read at a time and an idle connection
// has no buffer for it.
type readAhead struct {
	conn   syscall.RawConn
	try    func(fd uintptr) bool // readAhead.read, made once
	lent   *[]byte               // what was read; nil for nothing
	taken  int                   // how much of it
	failed error                 // of the last try
}

// aheadBytes is the most that is read at a time.
const aheadBytes = 8 << 10

var aheadBuffers = sync.Pool{New: func() any {
	buf := make([]byte, aheadBytes)
	return &buf
}}

// newReadAhead returns nil for a connection that is none of the kernel's: TLS.
func newReadAhead(conn any) *readAhead {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	r := &readAhead{conn: raw}
	r.try = r.read
	return r
}

// Read implements io.Reader.
func (r *readAhead) Read(p []byte) (int, error) {
	if r.lent == nil {
		if err := r.conn.Read(r.try); err != nil {
			return 0, err
		}
		if r.failed != nil {
			return 0, r.failed
		}
	}
	n := copy(p, (*r.lent)[r.taken:])
	r.taken += n
	if r.taken == len(*r.lent) {
		*r.lent = (*r.lent)[:aheadBytes]
		aheadBuffers.Put(r.lent)
		r.lent, r.taken = nil, 0
	}
	return n, nil
}

// read is called when there may be something to read, and reports false if there
// is not.
func (r *readAhead) read(fd uintptr) bool {
	buf := aheadBuffers.Get().(*[]byte)
	n, err := syscall.Read(int(fd), *buf)
	for err == syscall.EINTR {
		n, err = syscall.Read(int(fd), *buf)
	}
	if n > 0 {
		*buf = (*buf)[:n]
		r.lent, r.failed = buf, nil
		return true
	}
	aheadBuffers.Put(buf)
	switch err {
	case nil:
		r.failed = io.EOF
	case syscall.EAGAIN:
		return false
	default:
		r.failed = os.NewSyscallError("read", err)
	}
	return true
}
