package e2e_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// thin is a minimal WebSocket client: a connection and no goroutine. It can only
// register.
type thin struct {
	net.Conn
	user     string
	register []byte // its frame
}

var errThinRefused = errors.New("refused")

// thinFrame is a masked frame (with a mask of zeros) of up to 64 KiB.
func thinFrame(text []byte) []byte {
	frame := []byte{0x81, 0x80 | 126, byte(len(text) >> 8), byte(len(text)), 0, 0, 0, 0}
	return append(frame, text...)
}

func (c *testCluster) thin(user string) *thin {
	c.t.Helper()
	m, err := wire.New(user, &wire.Register{UserID: user, Role: wire.RoleParticipant})
	if err != nil {
		c.t.Fatal(err)
	}
	m.Token = c.token(user, wire.RoleParticipant)
	text, err := m.Encode()
	if err != nil {
		c.t.Fatal(err)
	}
	return &thin{user: user, register: thinFrame(text)}
}

// open makes the connection a WebSocket, not yet registered.
func (k *thin) open(base string) (err error) {
	addr := strings.TrimPrefix(base, "http://")
	if k.Conn, err = net.DialTimeout("tcp", addr, patience); err != nil {
		return err
	}
	_ = k.SetDeadline(time.Now().Add(patience))
	request := "GET /ws HTTP/1.1\r\nHost: " + addr + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	if _, err = io.WriteString(k, request); err == nil {
		var head []byte
		// Byte by byte would be slow; nothing unrequested follows the head.
		if head, err = bufio.NewReaderSize(k, 512).ReadSlice('\n'); err == nil && !bytes.Contains(head, []byte(" 101 ")) {
			err = errThinRefused
		}
	}
	if err != nil {
		_ = k.Close()
	}
	return err
}

// confirmed waits for the answer to the register.
func (k *thin) confirmed() error {
	_ = k.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 4096)
	have := 0
	for have < len(buf) {
		n, err := k.Read(buf[have:])
		have += n
		switch {
		case bytes.Contains(buf[:have], []byte(`"register_confirm"`)):
			return nil
		case bytes.Contains(buf[:have], []byte(`"error"`)):
			return errThinRefused
		case err != nil:
			return err
		}
	}
	return errors.New("no answer to register")
}

// crowd is many thin clients.
type crowd struct {
	t       *testing.T
	clients []*thin
	again   atomic.Int64 // attempts beyond the first
}

const crowdHands = 48 // goroutines that serve the clients

// each calls f for every client, from several goroutines.
func (c *crowd) each(f func(i int, k *thin)) {
	var all sync.WaitGroup
	var next atomic.Int64
	for range crowdHands {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(c.clients) {
					return
				}
				f(i, c.clients[i])
			}
		})
	}
	all.Wait()
}

// come connects all clients, has them register at the same moment, and repeats for
// those that were told to retry, until all are registered.
func (c *crowd) come(bases []string) {
	c.t.Helper()
	deadline := time.Now().Add(2 * patience)
	open := make([]bool, len(c.clients))
	begun := time.Now()
	c.each(func(i int, k *thin) { open[i] = k.open(bases[i%len(bases)]) == nil })
	opened := time.Since(begun)
	begun = time.Now()
	c.each(func(i int, k *thin) {
		if open[i] {
			_, err := k.Write(k.register)
			open[i] = err == nil
		}
	})
	said := time.Since(begun)
	c.each(func(i int, k *thin) {
		if open[i] && k.confirmed() == nil {
			return
		}
		for try := 1; time.Now().Before(deadline); try++ {
			c.again.Add(1)
			if k.Conn != nil {
				_ = k.Close()
			}
			waitFor(c.t.Context(), time.Duration(min(try, 10))*20*time.Millisecond)
			if k.open(bases[(i+try)%len(bases)]) != nil {
				continue
			}
			if _, err := k.Write(k.register); err == nil && k.confirmed() == nil {
				return
			}
		}
		c.t.Errorf("%s has not registered within %s", k.user, 2*patience)
	})
	c.t.Logf("%d sockets opened in %s, registers said within %s, all confirmed %s after that; %d attempts again",
		len(c.clients), opened.Round(time.Millisecond), said.Round(time.Millisecond), (time.Since(begun) - said).Round(time.Millisecond), c.again.Load())
}

func (c *crowd) leave() {
	c.each(func(_ int, k *thin) { _ = k.Close() })
}

// crowdSize is 10,000, in the sample 1,000, or as many sockets as this process may
// open with some to spare.
func crowdSize(t *testing.T) int {
	t.Helper()
	size := sample.Or(1_000, 10_000)
	if most := filesAllowed() - 1000; most < size {
		t.Logf("this process may open %d files: a crowd of %d, not of %d", filesAllowed(), max(most, 500), size)
		size = max(most, 500)
	}
	return size
}

// memory returns one line of /proc/<pid>/status in KiB, 0 if unavailable.
func (p *process) memory(field string) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var n int
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			_, _ = fmt.Sscan(rest, &n)
			return n
		}
	}
	return 0
}

// files returns how many files a process has open, 0 if unknown.
func (p *process) files() int {
	all, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	return len(all)
}

// vigil polls the readiness of nodes until it is ended.
type vigil struct {
	stop chan struct{}
	over sync.WaitGroup
	mu   sync.Mutex
	asks int
	bad  []string
}

func watch(nodes []*process) *vigil {
	v := &vigil{stop: make(chan struct{})}
	for _, n := range nodes {
		v.over.Go(func() {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-v.stop:
					return
				case <-tick.C:
				}
				status := n.status("/readyz")
				v.mu.Lock()
				v.asks++
				if status != http.StatusOK {
					v.bad = append(v.bad, fmt.Sprintf("%s: %d", n.base, status))
				}
				v.mu.Unlock()
			}
		})
	}
	return v
}

func (v *vigil) end() (asks int, bad []string) {
	close(v.stop)
	v.over.Wait()
	return v.asks, v.bad
}

// TestCrowd has 10,000 users, in the sample 1,000, register at the same moment,
// twice: all get in, the nodes stay ready, a signing continues beside them, and when
// all have left, nothing of them remains, nor does the second time take more memory
// than the first.
func TestCrowd(t *testing.T) {
	inTurn(t, "hostile crowds", 1, 3)
	needRedis(t)
	if testing.Short() {
		t.Skip("ten thousand sockets are left out with -short")
	}
	rdb := redistest.StartRedis(t).Client(t)
	c := newCluster(t, rdb, redistest.Prefix(), "--log-level", "info", "--share-kek", testKEK)
	var bases []string
	for range 3 {
		bases = append(bases, c.start().base)
	}
	g := gatherParts(t, c)
	g.keygen(t)
	g.sign(t, "before", 1, 2)

	everybody := &crowd{t: t}
	for i := range crowdSize(t) {
		everybody.clients = append(everybody.clients, c.thin(fmt.Sprintf("user-%d", i)))
	}
	var files []int
	for _, n := range c.nodes {
		files = append(files, n.files())
	}
	var peaks [2][]int
	for round := range peaks {
		guard := watch(c.nodes)
		everybody.come(bases)
		g.sign(t, fmt.Sprint("among the crowd ", round), 1, 3)
		for _, n := range c.nodes {
			peaks[round] = append(peaks[round], n.memory("VmRSS"))
		}
		everybody.leave()
		c.calm(len(g.p)) // the coordinator and three participants
		asks, bad := guard.end()
		t.Logf("asked %d times whether they are ready, %d times not so; VmRSS of the nodes %v KiB", asks, len(bad), peaks[round])
		if len(bad) > asks/100 {
			t.Errorf("nodes were not ready: %v", bad)
		}
		for i, n := range c.nodes {
			// Connections to Redis are kept for a while.
			eventually(t, "the sockets are gone", func() bool { return n.files() <= files[i]+150 })
		}
		g.sign(t, fmt.Sprint("after the crowd ", round), 2, 3)
	}
	for i, first := range peaks[0] {
		if second := peaks[1][i]; second > first*3/2 {
			t.Errorf("node %d took %d KiB the first time and %d the second", i+1, first, second)
		}
	}
}

// calm waits until only so many users are present, and each node knows it.
func (c *testCluster) calm(users int) {
	c.t.Helper()
	eventually(c.t, "the crowd is not present any more", func() bool {
		present, err := c.rdb.Keys(c.t.Context(), c.prefix+"presence:*").Result()
		return err == nil && len(present) == users
	})
	eventually(c.t, "the nodes hold as many sockets", func() bool {
		n := 0
		for i := range c.nodes {
			open, err := c.rdb.HGet(c.t.Context(), fmt.Sprintf("%snode:{n%d}", c.prefix, i+1), "connections").Int()
			if err != nil {
				return false
			}
			n += open
		}
		return n == users
	})
}
