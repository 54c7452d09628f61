package wsconn_test

import (
	"bufio"
	"encoding/binary"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// rawJoin registers over a bare TCP connection whose client side costs next to
// nothing, so that the measurement shows the server's cost.
func rawJoin(t testing.TB, addr string, register []byte) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	request := "GET /ws HTTP/1.1\r\nHost: " + addr + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	if _, err := conn.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	for line := "x"; strings.TrimSpace(line) != ""; {
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	// A masked text frame with a mask of zeros, of up to 64 KiB.
	frame := append([]byte{0x81, 0x80 | 126}, binary.BigEndian.AppendUint16(nil, uint16(len(register)))...)
	frame = append(append(frame, 0, 0, 0, 0), register...)
	if _, err := conn.Write(frame); err != nil {
		t.Fatal(err)
	}
	reply, err := r.ReadString('}')
	if err != nil || !strings.Contains(reply, string(wire.TypeRegisterConfirm)) {
		t.Fatalf("got %q, %v", reply, err)
	}
	return conn
}

// TestIdleMemory bounds the cost of an idle registered connection: heap, stack and
// goroutines, without the kernel's buffers.
func TestIdleMemory(t *testing.T) {
	const count, most = 1800, 10 << 10 // two files each, and many systems allow 4096
	h := serve(t, nil)
	addr := strings.TrimSuffix(strings.TrimPrefix(h.url, "ws://"), "/ws")
	register, _ := message("", token("alice", "participant", time.Hour), &wire.Register{UserID: "alice", Role: wire.RoleParticipant}).Encode()
	rawJoin(t, addr, register) // creates everything that is created only once
	settle := func() (m runtime.MemStats) {
		for range 4 { // stacks shrink by half a collection
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m
	}
	before, goroutines := settle(), runtime.NumGoroutine()
	conns := make([]*wsconn.Conn, 0, count)
	clients := make([]net.Conn, 0, count)
	for range count {
		clients = append(clients, rawJoin(t, addr, register))
		conns = append(conns, await(t, h.handler.started))
	}
	eventually(t, "writers end", func() bool { return runtime.NumGoroutine() <= goroutines+count })
	after := settle()
	heap := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / count
	stack := (int64(after.StackInuse) - int64(before.StackInuse)) / count
	t.Logf("race detector: %v", raceEnabled())
	t.Logf("an idle registered connection takes %d bytes of heap (the test's own client among them) and %d of stack", heap, stack)
	if race := raceEnabled(); !race && heap+stack > most {
		t.Errorf("got %d bytes, want at most %d", heap+stack, most)
	}
	runtime.KeepAlive(conns)
	runtime.KeepAlive(clients)
}

// raceEnabled reports whether this binary has the race detector, which needs memory
// of its own.
func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
