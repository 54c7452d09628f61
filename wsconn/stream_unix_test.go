//go:build unix

package wsconn

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"
)

// tcpPair returns two ends of a connection of the kernel's.
func tcpPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

// What is read is what was written, however it is cut, from many connections that
// borrow from the same pool; then comes io.EOF, and nothing is lent any more.
func TestReadAhead(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			from, to := tcpPair(t)
			want := make([]byte, 1<<20)
			for i := range want {
				want[i] = byte(r.Uint32())
			}
			cut := rand.New(rand.NewPCG(seed, 2))
			go func() {
				for rest := want; len(rest) > 0; {
					n := min(len(rest), 1+cut.IntN(3*aheadBytes))
					_, _ = from.Write(rest[:n])
					rest = rest[n:]
				}
				_ = from.Close()
			}()
			ahead := newReadAhead(to)
			var got []byte
			for {
				p := make([]byte, 1+r.IntN(2*aheadBytes))
				n, err := ahead.Read(p)
				got = append(got, p[:n]...)
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes came through, or others; want %d", len(got), len(want))
			}
			if ahead.lent != nil {
				t.Error("a buffer is lent after the end")
			}
		})
	}
}

// A connection that says nothing has no buffer, keeps to its deadline, and reads
// at once all that has come.
func TestReadAheadIdle(t *testing.T) {
	t.Parallel()
	from, to := tcpPair(t)
	ahead := newReadAhead(to)
	tries := 0
	ahead.try = func(fd uintptr) bool { tries++; return ahead.read(fd) }
	_ = to.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := ahead.Read(make([]byte, 8)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d, %v, want that the deadline has passed", n, err)
	}
	if ahead.lent != nil {
		t.Error("a buffer is lent while there is nothing to read")
	}
	_ = to.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := from.Write(make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(ahead, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	tries = 0
	for range 4 { // the rest, small piece by small piece
		if _, err := io.ReadFull(ahead, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if tries != 0 {
		t.Errorf("%d more reads of the kernel for what had come already", tries)
	}
	_ = to.Close()
	if _, err := io.ReadFull(ahead, make([]byte, 2000)); err == nil {
		t.Error("more was read than was written")
	}
}

// Over TLS the kernel has only what is encrypted.
func TestReadAheadNeedsTheKernel(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if newReadAhead(a) != nil {
		t.Error("reads a connection ahead that is none of the kernel's")
	}
}
